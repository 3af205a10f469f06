"""Where templates are found, and what is said when one is wrong."""

from __future__ import annotations

import pytest

from reflow.errors import RenderError
from reflow.rendering import render


def test_first_folder_wins(tmp_path):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.j2").write_text(f"{folder} {{{{ value }}}}\n")
    assert render("x.j2", [tmp_path / "first", tmp_path / "second"], value=1) == "first 1\n"


def test_reflows_own_templates_are_found_without_any_folder():
    script = render("slurm.sh.j2", comments=[], directives=[], working_dir="/", setup=[], exports=[], command="true")
    assert script.startswith("#!/bin/bash\n")


def test_template_may_extend_reflows_own(tmp_path):
    (tmp_path / "mine.j2").write_text('{% include "slurm.sh.j2" %}')
    values = {"comments": [], "directives": [], "working_dir": "/", "setup": [], "exports": [], "command": "true"}
    assert render("mine.j2", [tmp_path], **values) == render("slurm.sh.j2", **values)


def test_value_is_printed_as_it_is_and_tag_lines_leave_no_trace(tmp_path):
    (tmp_path / "x.j2").write_text("{## nothing ##}\n{% for each in all %}\n  {{ each }}\n{% endfor %}\n${#a[@]}\n")
    assert render("x.j2", [tmp_path], all=["<&'\">"]) == "  <&'\">\n${#a[@]}\n"


def test_missing_template_names_the_folders(tmp_path):
    with pytest.raises(RenderError, match=rf"template 'gone\.j2' is in none of the folders '{tmp_path}'"):
        render("gone.j2", [tmp_path])


def test_missing_part_of_a_template_is_named(tmp_path):
    (tmp_path / "x.j2").write_text('{% include "part.j2" %}')
    with pytest.raises(RenderError, match=r"template 'part\.j2' is in none"):
        render("x.j2", [tmp_path])


def test_name_that_has_no_value_is_an_error(tmp_path):
    (tmp_path / "x.j2").write_text("{{ commmand }}")
    with pytest.raises(RenderError, match=r"template 'x\.j2' .*'commmand' is undefined"):
        render("x.j2", [tmp_path], command="true")


def test_wrong_template_names_its_line(tmp_path):
    (tmp_path / "x.j2").write_text("one\n{% for %}\n")
    with pytest.raises(RenderError, match=r"x\.j2' line 2: "):
        render("x.j2", [tmp_path])


def test_template_that_fails_while_it_prints_is_one_sentence(tmp_path):
    (tmp_path / "x.j2").write_text("{{ 1 + 'a' }}")
    with pytest.raises(RenderError, match="cannot be printed"):
        render("x.j2", [tmp_path])
