import pytest

from st4rtrack.cli.options import read_anchor
from st4rtrack.types import UserError


def test_an_anchor_is_a_number_or_a_word() -> None:
    assert [read_anchor(value) for value in ("0", "17", "middle", "auto")] == [0, 17, "middle", "auto"]
    for value in ("-1", "1.5", "last", ""):
        with pytest.raises(UserError, match="'middle' or 'auto'"):
            read_anchor(value)
