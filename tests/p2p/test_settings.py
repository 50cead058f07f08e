"""p2p/settings.py: one table, read in the order flag, variable, file, default."""

from pathlib import Path

import pytest

from p2p.errors import ConfigError
from p2p.settings import Setting, check_value, read, toml_value, write

TABLE = (
    Setting("api.listen", str, "127.0.0.1:8000", "Where the API listens.", low=3, high=40),
    Setting("model.slots", int, 8, "How many.\nMore is more.", low=1, high=64),
    Setting("model.share", float, 0.5, "A share.", low=0, high=1),
    Setting("model.any", float, 0.5, "Unbounded."),
    Setting("model.least", int, 1, "At least one.", low=1),
    Setting("model.most", int, 1, "At most nine.", high=9),
    Setting("network.drafting", str, "allowlist", "Who.", choices=("off", "allowlist")),
    Setting("network.nodes", list, (), "Peer ids.", high=2),
    Setting("network.public", bool, False, "Beyond loopback."),
)


def read_text(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "verifier.toml"
    path.write_text(text)
    return dict(read(TABLE, path))


def test_without_a_file_every_setting_has_its_default(tmp_path: Path) -> None:
    values = read(TABLE, tmp_path / "missing.toml")

    assert values == {row.key: row.default for row in TABLE}


def test_flag_beats_variable_beats_file_beats_default(tmp_path: Path) -> None:
    path = tmp_path / "verifier.toml"
    path.write_text("[model]\nslots = 2\nleast = 3\nmost = 4\n")

    values = read(
        TABLE,
        path,
        environment={"NEXUS_MODEL_SLOTS": "5", "NEXUS_MODEL_LEAST": "6"},
        flags={"model.slots": 7, "model.most": None},
    )

    assert (values["model.slots"], values["model.least"], values["model.most"]) == (7, 6, 4)
    assert values["model.share"] == 0.5


def test_variables_give_lists_booleans_and_numbers() -> None:
    environment = {
        "NEXUS_NETWORK_NODES": "a, b,",
        "NEXUS_NETWORK_PUBLIC": "True",
        "NEXUS_MODEL_SHARE": "1",
    }

    values = read(TABLE, None, environment=environment)

    assert values["network.nodes"] == ("a", "b")
    assert values["network.public"] is True
    assert values["model.share"] == 1.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '[model]\n\nslots = "many"\n',
            'line 3: model.slots = "many": expected an integer of 1 to',
        ),
        ("[model]\nslots = 0\n", "expected an integer of 1 to 64"),
        ("[model]\nslots = 65\n", "expected an integer of 1 to 64"),
        ("[model]\nslots = true\n", "model.slots = true: expected an integer"),
        ("[model]\nleast = 0\n", "expected an integer of 1 or more"),
        ("[model]\nmost = 10\n", "expected an integer of at most 9"),
        ('[model]\nany = "x"\n', "expected a number"),
        ('api.listen = "x"\n', "line 1: api.listen"),
        ("[network]\nnodes = [1]\n", "expected a list of texts of at most 2 items"),
        ('[network]\nnodes = ["a", "b", "c"]\n', "expected a list of texts of at most 2 items"),
        ("[network]\npublic = 1\n", "expected true or false"),
        ('[network]\ndrafting = "all"\n', 'expected one of "off", "allowlist"'),
        ("[network]\nslots = 3\n", "network.slots is not a setting. Did you mean model.slots?"),
        ("[network]\nfoo = 3\n", "network.foo is not a setting. Known are: api.listen"),
        ("[model\n", "is not TOML"),
    ],
)
def test_what_cannot_be_used_is_named_with_file_line_and_key(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_text(tmp_path, text)

    assert "verifier.toml" in str(caught.value)
    assert words in str(caught.value)


def test_the_bounds_themselves_are_allowed(tmp_path: Path) -> None:
    low = read_text(tmp_path, "[model]\nslots = 1\nshare = 0\n")
    high = read_text(tmp_path, "[model]\nslots = 64\nshare = 1.0\n")

    assert (low["model.slots"], low["model.share"]) == (1, 0.0)
    assert (high["model.slots"], high["model.share"]) == (64, 1.0)


def test_a_variable_that_cannot_be_used_is_named() -> None:
    with pytest.raises(ConfigError, match="variable NEXUS_MODEL_SLOTS"):
        read(TABLE, None, environment={"NEXUS_MODEL_SLOTS": "many"})


def test_a_file_that_is_not_text_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "verifier.toml"
    binary.write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="not UTF-8"):
        read(TABLE, binary)
    with pytest.raises(ConfigError, match="cannot be read"):
        read(TABLE, tmp_path)


def test_a_written_file_reads_back_as_the_same_values(tmp_path: Path) -> None:
    values = read(
        TABLE, None, flags={"network.nodes": ["a", 'q"\\'], "model.slots": 9, "model.share": 0.25}
    )

    text = write(TABLE, values, "Made by init.\nEdit freely.")

    assert read_text(tmp_path, text) == values
    assert "# listen = " in text
    assert "\nslots = 9\n" in text
    assert "# One of: off, allowlist." in text


def test_toml_text_escapes_what_is_not_printable(tmp_path: Path) -> None:
    text = f"[api]\nlisten = {toml_value('tab' + chr(9) + 'end')}\n"

    assert read_text(tmp_path, text)["api.listen"] == "tab\tend"


def test_one_value_can_be_checked_alone() -> None:
    row = TABLE[1]

    assert check_value(row, 3, "here") == 3
    with pytest.raises(ConfigError, match=r"^here = 99"):
        check_value(row, 99, "here")
