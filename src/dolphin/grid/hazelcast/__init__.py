"""The grid on a Hazelcast cluster: the same port, shared by machines (SPEC §14); decisions 0056 to 0058."""
