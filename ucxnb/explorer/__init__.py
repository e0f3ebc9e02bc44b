"""Which wire, which protocol, why, and what if: UCX's choices, measured with other settings."""

from __future__ import annotations

from ..protocols import Candidate, Estimate, Explanation, Lane, ProtocolRange, describe_protocol
from .comparison import Comparison, compare_settings, median_interval
from .fresh_pair import FreshPair, StoppedError
from .profile import Profile, ProfilePoint, measure_profile, probe
from .settings import UcxSetting, find_settings, read_settings, settings_code
from .tuner import Trial, Tuner, TunerStep, candidate_settings

__all__ = [
    "Candidate",
    "Comparison",
    "Estimate",
    "Explanation",
    "FreshPair",
    "Lane",
    "Profile",
    "ProfilePoint",
    "ProtocolRange",
    "StoppedError",
    "Trial",
    "Tuner",
    "TunerStep",
    "UcxSetting",
    "candidate_settings",
    "compare_settings",
    "describe_protocol",
    "find_settings",
    "measure_profile",
    "median_interval",
    "probe",
    "read_settings",
    "settings_code",
]
