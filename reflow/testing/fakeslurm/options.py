"""How sbatch reads options: on its command line and on a script's ``#SBATCH`` lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

#: Long names that take a value, with their short letters.
_WITH_VALUE = {
    "account": "A", "acctg-freq": "", "array": "a", "batch": "", "bb": "", "bbf": "", "begin": "b", "chdir": "D",
    "cluster-constraint": "", "clusters": "M", "comment": "", "constraint": "C", "container": "", "core-spec": "S",
    "cores-per-socket": "", "cpu-freq": "", "cpus-per-gpu": "", "cpus-per-task": "c", "deadline": "",
    "delay-boot": "", "dependency": "d", "distribution": "m", "error": "e", "exclude": "x", "export": "",
    "export-file": "", "extra-node-info": "B", "gid": "", "gpu-bind": "", "gpu-freq": "", "gpus": "G",
    "gpus-per-node": "", "gpus-per-socket": "", "gpus-per-task": "", "gres": "", "gres-flags": "", "hint": "",
    "input": "i", "job-name": "J", "kill-on-invalid-dep": "", "licenses": "L", "mail-type": "", "mail-user": "",
    "mcs-label": "", "mem": "", "mem-bind": "", "mem-per-cpu": "", "mem-per-gpu": "", "mincpus": "", "network": "",
    "nodefile": "F", "nodelist": "w", "nodes": "N", "ntasks": "n", "ntasks-per-core": "", "ntasks-per-gpu": "",
    "ntasks-per-node": "", "ntasks-per-socket": "", "open-mode": "", "output": "o", "partition": "p", "power": "",
    "prefer": "", "priority": "", "profile": "", "qos": "q", "reservation": "", "signal": "",
    "sockets-per-node": "", "switches": "", "thread-spec": "", "threads-per-core": "", "time": "t", "time-min": "",
    "tmp": "", "uid": "", "wait-all-nodes": "", "wckey": "", "wrap": "",
}  # fmt: skip

#: Long names that stand alone, or take a value only after ``=``.
_ALONE = {
    "contiguous": "", "exclusive": "", "get-user-env": "", "help": "h", "hold": "H", "ignore-pbs": "", "nice": "",
    "no-kill": "k", "no-requeue": "", "overcommit": "O", "oversubscribe": "s", "parsable": "", "propagate": "",
    "quiet": "Q", "reboot": "", "requeue": "", "share": "", "spread-job": "", "test-only": "", "usage": "",
    "use-min-nodes": "", "verbose": "v", "version": "V", "wait": "W",
}  # fmt: skip


class WrongOption(Exception):
    """An option is unknown or lacks its value; the message is what getopt says, without the program's name."""


def read_options(
    words: Sequence[str],
    with_value: Mapping[str, str] = _WITH_VALUE,
    alone: Mapping[str, str] = _ALONE,
    permute: bool = False,
) -> tuple[dict[str, str], list[str]]:
    """Return options by long name ('' for those that stand alone) and the words that are none.

    Stops at the first word that is no option, as sbatch must, whose rest belongs to the script; with `permute` it
    goes on. Long names may be shortened as far as they stay clear. Raises `WrongOption`.
    """
    by_letter = {letter: name for name, letter in {**with_value, **alone}.items() if letter}
    found: dict[str, str] = {}
    others: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return found, others + rest
        if word.startswith("--"):
            written, equals, value = word[2:].partition("=")
            name = _complete(written, [*with_value, *alone])
            if name in with_value and not equals:
                if not rest:
                    raise WrongOption(f"option '--{name}' requires an argument")
                value = rest.pop(0)
            found[name] = value
        elif word.startswith("-") and len(word) > 1:
            rest[:0] = _read_letters(word[1:], by_letter, with_value, rest, found)
        elif permute:
            others.append(word)
        else:
            return found, [word, *rest]
    return found, others


def _complete(written: str, names: Iterable[str]) -> str:
    fitting = [name for name in names if name == written] or [name for name in names if name.startswith(written)]
    if len(fitting) > 1:
        raise WrongOption(f"option '--{written}' is ambiguous; possibilities: {' '.join(f'--{n}' for n in fitting)}")
    if not fitting:
        raise WrongOption(f"unrecognized option '--{written}'")
    return fitting[0]


def _read_letters(
    letters: str, by_letter: Mapping[str, str], with_value: Mapping[str, str], rest: list[str], found: dict[str, str]
) -> list[str]:
    """Take in the letters behind one dash; return a word to go on with when letters are left."""
    letter, more = letters[0], letters[1:]
    if letter not in by_letter:
        raise WrongOption(f"invalid option -- '{letter}'")
    name = by_letter[letter]
    if name not in with_value:
        found[name] = ""
        return [f"-{more}"] if more else []
    if not more and not rest:
        raise WrongOption(f"option requires an argument -- '{letter}'")
    found[name] = more or rest.pop(0)
    return []


def script_options(script: str) -> dict[str, str]:
    """Return the options of a script's ``#SBATCH`` lines, which end at its first command. Raises `WrongOption`."""
    found: dict[str, str] = {}
    for line in script.splitlines():
        if line.startswith("#SBATCH"):
            found.update(read_options(split_directive(line[len("#SBATCH") :]))[0])
        elif line.strip() and not line.startswith("#"):
            break
    return found


def split_directive(text: str) -> list[str]:
    """Split what follows ``#SBATCH`` into words as sbatch does.

    Either kind of quote keeps blanks, a backslash keeps the next character outside single quotes, and a ``#`` that
    begins a word ends the line.
    """
    words: list[str] = []
    word: str | None = None
    quote = ""
    characters = iter(text)
    for character in characters:
        if character == "\\" and quote != "'":
            word = (word or "") + next(characters, "")
        elif quote:
            if character == quote:
                quote = ""
            else:
                word = (word or "") + character
        elif character in "\"'":
            quote, word = character, word or ""
        elif character.isspace():
            if word is not None:
                words.append(word)
            word = None
        elif character == "#" and word is None:
            break
        else:
            word = (word or "") + character
    if word is not None:
        words.append(word)
    return words
