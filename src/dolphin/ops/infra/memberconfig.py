"""The configuration of a Hazelcast member: loopback, no broadcast, no word to its maker (SPEC §14)."""

from __future__ import annotations

from collections.abc import Sequence

from dolphin.grid.embedded import FAST_MAPS

CLUSTER = "dolphin"
HOST = "127.0.0.1"

SESSION_S = 20
"""How long after its holder's last word a lock is free; a holder gives word every five seconds."""

_TEMPLATE = """\
# Written by `dolphin infra hazelcast up`; changes here are lost with the next.
hazelcast:
  cluster-name: {cluster}
  properties:
    hazelcast.phone.home.enabled: false
    hazelcast.socket.bind.any: false
    hazelcast.socket.client.bind.any: false
    # A member that says nothing for so long is dead to the others; the default is a minute.
    hazelcast.heartbeat.interval.seconds: 1
    hazelcast.max.no.heartbeat.seconds: 10
    hazelcast.operation.call.timeout.millis: 10000
    hazelcast.wait.seconds.before.join: 1
    hazelcast.merge.first.run.delay.seconds: 5
    hazelcast.merge.next.run.delay.seconds: 5
    hazelcast.shutdownhook.policy: TERMINATE
  network:
    port: {{ port: {port}, auto-increment: false }}
    interfaces: {{ enabled: true, interfaces: [{host}] }}
    join:
      auto-detection: {{ enabled: false }}
      multicast: {{ enabled: false }}
      tcp-ip: {{ enabled: true, connection-timeout-seconds: 2, member-list: [{list}] }}
    rest-api:
      enabled: true
      endpoint-groups:
        HEALTH_CHECK: {{ enabled: true }}
        CLUSTER_READ: {{ enabled: true }}
        CP: {{ enabled: {cp} }}
  jet: {{ enabled: false }}
  map:
    # Written anew all the time: one copy elsewhere, a moment later.
{fast}    # Everything else: on every member before a write is acknowledged.
    default:
      backup-count: {backups}
      per-entry-stats-enabled: true
      merge-policy: {{ class-name: LatestUpdateMergePolicy }}
{protected}{safety}"""

_CP = """\
  cp-subsystem:
    cp-member-count: {members}
    group-size: {members}
    session-time-to-live-seconds: {session}
    session-heartbeat-interval-seconds: 5
    # A member that died is replaced by `up`; one that was only away comes back as it was.
    missing-cp-member-auto-removal-seconds: 0
    fail-on-indeterminate-operation-state: true
    raft-algorithm:
      leader-election-timeout-in-millis: 1000
      leader-heartbeat-period-in-millis: 1000
      max-missed-leader-heartbeat-count: 3
"""

_PROTECTION = """\
  split-brain-protection:
    # The smaller part of a cluster that fell apart answers no question about money.
    majority: {{ enabled: true, minimum-cluster-size: 2, protect-on: READ_WRITE }}
"""


def member_config(port: int, ports: Sequence[int], hosts: Sequence[str] = (), cluster: str = CLUSTER) -> str:
    """The YAML of the member at `port`, one of `ports`; three or more have a CP subsystem of three. `hosts` are the
    loopback addresses of those at `ports`, 127.0.0.1 by default."""
    cp = len(ports) >= 3
    places = dict(zip(ports, hosts or (HOST,) * len(ports), strict=True))
    fast = "".join(f'    "{name}": {{ backup-count: 0, async-backup-count: 1 }}\n' for name in FAST_MAPS)
    return _TEMPLATE.format(
        cluster=cluster,
        port=port,
        host=places[port],
        list=", ".join(f'"{host}:{each}"' for each, host in places.items()),
        cp="true" if cp else "false",
        fast=fast,
        backups=min(2, len(ports) - 1),
        protected="      split-brain-protection-ref: majority\n" if cp else "",
        safety=_CP.format(session=SESSION_S, members=3 if cp else 0) + (_PROTECTION.format() if cp else ""),
    )
