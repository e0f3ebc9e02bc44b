"""UCX's settings, with its own documentation (``ucx_info -c -f``)."""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ArgumentError, MissingUcxError
from ..text import shown
from ..ucx_programs import ask_ucx_info, find_ucx_program

__all__ = ["UcxSetting", "find_settings", "read_settings", "settings_code", "split_settings"]

_SECTION = re.compile(r"^# (.*\bconfiguration)$")
_ITEM = re.compile(r"^UCX_([A-Z0-9_]+)=(.*)$")
_CHOICES = re.compile(r"^(?:comma-separated list of: )?\[([^\]]+)\]$|^<(\w+(?:\|\w+)+)>$")
# UCX reads these for the whole process, before a worker could say anything else.
_OF_PROCESS = ("UCS global", "UCM configuration")


@dataclass(frozen=True, slots=True)
class UcxSetting:
    """One setting of the installed UCX.

    Attributes
    ----------
    name : str
        Without ``UCX_``, as in `WorkerConfig.ucx_options`: ``"RNDV_THRESH"``.
    default : str
        Its value if nothing else is said.
    syntax : str
        What values it takes, in UCX's words.
    description : str
        What it does, in UCX's words.
    section : str
        Where it belongs: ``"UCP context configuration"``, ``"tcp transport configuration"``.
    """

    name: str
    default: str
    syntax: str
    description: str
    section: str

    @property
    def choices(self) -> tuple[str, ...]:
        """All values, if there are only certain words."""
        match = _CHOICES.match(self.syntax)
        if match is None or self.syntax.startswith("comma"):
            return ()
        return tuple((match[1] or match[2]).split("|"))

    @property
    def of_process(self) -> bool:
        """Whether it holds for a whole process: set ``UCX_…`` before Python starts."""
        return self.section.startswith(_OF_PROCESS)

    @property
    def text(self) -> str:
        """All of it, for people."""
        where = "; for the whole process, set before Python starts" if self.of_process else ""
        return (
            f"UCX_{self.name} = {self.default or '(empty)'}\n{self.description}\n"
            f"Takes: {self.syntax}\nFrom: {self.section}{where}"
        )


def read_settings() -> dict[str, UcxSetting]:
    """Ask the installed UCX for all its settings, whatever the environment says.

    Returns
    -------
    dict of str to UcxSetting
        By name, in UCX's order. Asked once for each program.

    Raises
    ------
    MissingUcxError
        There is no ``ucx_info``, or it fails.
    """
    found = find_ucx_program("ucx_info")
    return dict(_read(found[0] if found else None))


@functools.cache
def _read(program: str | None) -> tuple[tuple[str, UcxSetting], ...]:
    text = ask_ucx_info("-c", "-f", defaults=True) if program else None
    if text is None:
        raise MissingUcxError(
            'there is no ucx_info that works; it comes with pip install "ucxnb[cu13]"'
        )
    return tuple(parse_settings(text).items())


def parse_settings(text: str) -> dict[str, UcxSetting]:
    """Read what ``ucx_info -c -f`` printed.

    Parameters
    ----------
    text : str
        Its standard output.

    Returns
    -------
    dict of str to UcxSetting
        By name.
    """
    found: dict[str, UcxSetting] = {}
    section, comment = "", list[str]()
    for line in text.splitlines():
        if not line.strip():
            # A title stands alone between two lines of comment.
            words = [word for word in comment if word]
            if len(words) == 1 and (match := _SECTION.match(f"# {words[0]}")):
                section = match[1]
            comment = []
        elif line.startswith("#"):
            comment.append(line[1:].strip())
        elif match := _ITEM.match(line):
            syntax = next((c for c in comment if c.startswith("syntax:")), "syntax:")
            words = [c for c in comment if c and not c.startswith(("syntax:", "inherits:"))]
            found.setdefault(
                match[1],
                UcxSetting(
                    match[1], match[2], syntax.partition(":")[2].strip(), "\n".join(words), section
                ),
            )
            comment = []
    return found


def find_settings(words: str) -> list[UcxSetting]:
    """Search names and documentation of the settings.

    Parameters
    ----------
    words : str
        Several, all of which must occur; capitals do not matter.

    Returns
    -------
    list of UcxSetting
        The name itself first, then those with the words in their names, then the others.

    Raises
    ------
    MissingUcxError
        As `read_settings`.
    ArgumentError
        `words` is no text.
    """
    if not isinstance(words, str):
        raise ArgumentError(f"words={shown(words)}: it takes a text to search for")
    wanted = words.upper().removeprefix("UCX_").split()
    ranked = []
    for place, setting in enumerate(read_settings().values()):
        text = f"{setting.name} {setting.description} {setting.section}".upper()
        if all(word in text for word in wanted):
            in_name = all(word in setting.name for word in wanted)
            ranked.append((setting.name != "_".join(wanted), not in_name, place, setting))
    return [setting for *_, setting in sorted(ranked, key=lambda item: item[:3])]


def split_settings(settings: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Tell settings of a worker from those of a whole process.

    Parameters
    ----------
    settings : mapping of str to str
        By name, without ``UCX_``.

    Returns
    -------
    tuple of (dict, dict)
        For `WorkerConfig.ucx_options`; and environment variables, with ``UCX_``.

    Raises
    ------
    ArgumentError
        They are no such mapping, or this UCX has no such setting; the message names those that
        are like it.
    MissingUcxError
        As `read_settings`.
    """
    if not isinstance(settings, Mapping) or not all(
        isinstance(text, str) for pair in settings.items() for text in pair
    ):
        raise ArgumentError(
            f'settings: {shown(settings)} is no mapping of texts, such as {{"RNDV_THRESH": "8k"}}'
        )
    known = read_settings()
    options, environment = {}, {}
    for name, value in settings.items():
        # MM_ is short for all transports over shared memory.
        if name not in known and not (
            name.startswith("MM_") and f"POSIX_{name.removeprefix('MM_')}" in known
        ):
            close = ", ".join(difflib.get_close_matches(name, known, 3, 0.6))
            raise ArgumentError(
                f"this UCX has no setting {shown(name)}"
                + (f"; it has {close}" if close else "; find_settings(...) searches them")
            )
        if name in known and known[name].of_process:
            environment[f"UCX_{name}"] = value
        else:
            options[name] = value
    return options, environment


def settings_code(settings: Mapping[str, str]) -> str:
    """Write settings as a line to copy.

    Parameters
    ----------
    settings : mapping of str to str
        As for `split_settings`.

    Returns
    -------
    str
        A ``WorkerConfig(ucx_options=...)``; below it what must be set before Python starts.

    Raises
    ------
    ArgumentError, MissingUcxError
        As `split_settings`.
    """
    options, environment = split_settings(settings)
    lines = [f"WorkerConfig(ucx_options={_quoted(options)})"] if options or not environment else []
    lines += [f"# before Python starts: {name}={value}" for name, value in environment.items()]
    return "\n".join(lines)


def _quoted(options: Mapping[str, str]) -> str:
    return json.dumps(dict(options), ensure_ascii=False)
