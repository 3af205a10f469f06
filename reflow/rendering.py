"""The one place that prints templates. Templates print, functions decide: no value is quoted or chosen here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import RenderError

_PACKAGE = Path(__file__).resolve().parent

#: Where the templates are that come with reflow: in an installed package, else beside a checkout's package.
OWN_FOLDERS = (_PACKAGE / "templates", _PACKAGE.parent / "templates")


def render(template: str, folders: Sequence[Path] = (), **values: object) -> str:
    """Return the text of the template of that file name, looked up in `folders` first, then among reflow's own.

    Raises `RenderError` when it is in none of them, is wrong, or uses a name that `values` does not have.
    """
    # Here, because jinja2 takes 80 ms, and commands that render nothing import the executors too.
    from jinja2 import (
        Environment,
        FileSystemLoader,
        StrictUndefined,
        TemplateError,
        TemplateNotFound,
        TemplateSyntaxError,
    )

    searched = (*folders, *OWN_FOLDERS)
    environment = Environment(
        loader=FileSystemLoader([str(folder) for folder in searched]),
        undefined=StrictUndefined,
        # jinja2's own "{#" is in every script that has an array: ${#words[@]}.
        comment_start_string="{##",
        comment_end_string="##}",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # a shell script is not HTML; its values come quoted
    )
    places = ", ".join(f"'{folder}'" for folder in searched)
    try:
        return environment.get_template(template).render(values)
    except TemplateNotFound as error:
        raise RenderError(f"template '{error.name}' is in none of the folders {places}") from error
    except TemplateSyntaxError as error:
        raise RenderError(f"template '{error.filename or template}' line {error.lineno}: {error.message}") from error
    except TemplateError as error:
        raise RenderError(f"template '{template}' (searched in {places}): {error.message}") from error
    except (TypeError, ValueError, UnicodeDecodeError) as error:
        raise RenderError(f"template '{template}' (searched in {places}) cannot be printed: {error}") from error
