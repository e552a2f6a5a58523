"""Several --filter options."""

import pytest

from bowerbird.cli.filters import combine_filters
from bowerbird.cli.outcome import EXIT_USAGE, UsageWrong


def test_no_options_are_no_filter() -> None:
    """Without the option there is no filter message at all."""
    assert combine_filters([]) is None


def test_all_options_must_hold() -> None:
    """Clauses of all options are joined, and one `or` may stand beside them."""
    combined = combine_filters(["style=noto", "width>=640 and exists(title)", "a=1 or b=2"])
    assert combined is not None
    assert [clause.field for clause in combined.all_of] == ["style", "width", "title"]
    assert [clause.field for clause in combined.any_of] == ["a", "b"]


@pytest.mark.parametrize("texts", [["style"], ["a=1 or b=2", "c=3 or d=4"], ["a=1 and b=2 or c=3"]])
def test_what_cannot_be_read_is_a_usage_error(texts: list[str]) -> None:
    """Malformed filters end with exit code 2 and the text in the message."""
    with pytest.raises(UsageWrong) as caught:
        combine_filters(texts)
    assert caught.value.exit_code == EXIT_USAGE
    assert texts[-1] in str(caught.value)
