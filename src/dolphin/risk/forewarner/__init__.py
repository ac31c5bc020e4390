"""The Monte-Carlo forewarner: how likely a configuration is to end in a catastrophe, by trained models (SPEC §11).

Models come in as arguments (`Models`); reading them from a folder is `market.forewarnerfiles`' work, fitting them
`research.forewarner`'s.
"""

from dolphin.risk.forewarner.assess import Forewarner, Models
from dolphin.risk.forewarner.report import Report, mc_scale_of, status_of
from dolphin.risk.forewarner.space import MC_BASE_CFG

__all__ = ["MC_BASE_CFG", "Forewarner", "Models", "Report", "mc_scale_of", "status_of"]
