"""The parameters of a run as options of ``submit``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ..parameters import RunParameter, run_parameters
from ..params import MISSING
from .values import WrongText, is_switch, metavar, read_text, repeated_item, shown

if TYPE_CHECKING:
    from ..workflow import Workflow


class ParameterOption(click.Option):
    """The option of one parameter. When it is not given, it has no value: each task has its own default."""

    def __init__(self, parameter: RunParameter, number: int) -> None:
        # click wants an identifier, and the user's names must not meet those of the command's own options.
        names = [*([parameter.short] if parameter.short else []), f"parameter_{number}"]
        if is_switch(parameter.annotation):
            switch = f"{parameter.flag}/--no-{parameter.flag.removeprefix('--')}"
            super().__init__([*names, switch], default=None, help=_help(parameter))
        else:
            item = repeated_item(parameter.annotation)
            annotation = parameter.annotation if item is None else item
            super().__init__(
                [*names, parameter.flag],
                type=str,
                callback=_reader(annotation),
                multiple=item is not None,
                metavar=metavar(annotation),
                help=_help(parameter),
            )
        self.parameter = parameter

    def given(self, value: Any) -> dict[str, Any]:
        """Return the value under the parameter's key, or nothing if the option was not given."""
        was_given = value is not None and not (self.multiple and not value)
        return {self.parameter.key: value} if was_given else {}


def parameter_options(workflow: Workflow) -> list[ParameterOption]:
    """Return an option for every parameter; raises `TypeError` or `ValueError` as `run_parameters` does."""
    parameters = run_parameters(list(workflow.tasks.values()))
    return [ParameterOption(parameter, number) for number, parameter in enumerate(parameters)]


def _reader(annotation: Any) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return what turns the text, or each of several, into a value of the type."""

    def read(context: click.Context, parameter: click.Parameter, given: Any) -> Any:
        try:
            if isinstance(given, tuple):
                return [read_text(text, annotation) for text in given]
            return None if given is None else read_text(given, annotation)
        except WrongText as error:
            raise click.BadParameter(str(error), context, parameter) from error

    return read


def _help(parameter: RunParameter) -> str:
    remarks = []
    if repeated_item(parameter.annotation) is not None:
        remarks.append("repeatable")
    if parameter.required:
        remarks.append("required")
    elif parameter.default is MISSING:
        remarks.append("default: each task its own")
    elif parameter.default is not None:
        remarks.append(f"default: {_default(parameter)}")
    remark = f"[{'; '.join(remarks)}]" if remarks else ""
    return "  ".join(text for text in (parameter.help, remark) if text)


def _default(parameter: RunParameter) -> str:
    if is_switch(parameter.annotation):
        return parameter.flag.removeprefix("--") if parameter.default else f"no-{parameter.flag.removeprefix('--')}"
    return shown(parameter.default)
