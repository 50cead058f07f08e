import stat
from pathlib import Path

import pytest

from nexusnode.control.messages import Pair, SettingsPatch
from nexusnode.daemon.preferences import Preferences
from nexusnode.settings import ROWS, TABLE, node_settings, read_values
from p2p.errors import ConfigError, ControlError
from p2p.paths import Folders, folders
from p2p.wire.schema import check


def under(tmp_path: Path) -> Folders:
    return folders("node", tmp_path)


def patch(key: str, value: str, revision: int | None = None) -> SettingsPatch:
    return SettingsPatch((Pair(key, value),), revision)


def test_every_setting_has_a_value_by_name() -> None:
    settings = node_settings({row.key: row.default for row in TABLE})

    assert settings.limits.always is False
    assert settings.sessions == 8
    assert settings.bootstrap == ()


def test_flags_win_over_variables_and_those_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node.toml").write_text("[limits]\nthreads = 1\nsessions = 1\ncontext = 300\n")
    monkeypatch.setenv("NEXUS_LIMITS_THREADS", "2")
    monkeypatch.setenv("NEXUS_LIMITS_SESSIONS", "2")

    settings = node_settings(read_values(under(tmp_path), {"limits.threads": 3}))

    assert (settings.threads, settings.sessions, settings.context) == (3, 2, 300)


def test_a_mistake_in_the_file_is_named_by_line_and_key(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('[run]\nwhen = "sometimes"\n')

    with pytest.raises(ConfigError, match=r"node.toml line 2: run.when"):
        Preferences(under(tmp_path), {})


def test_a_live_setting_takes_effect_at_once_and_another_at_the_next_start(tmp_path: Path) -> None:
    preferences = Preferences(under(tmp_path), {})
    seen: list[bool] = []
    preferences.on_change(lambda settings: seen.append(settings.limits.always))

    preferences.patch(patch("run.when", '"always"'))
    view = preferences.patch(patch("limits.threads", "3"))

    assert seen == [True, True]
    assert preferences.current.limits.always
    assert preferences.current.threads == 0
    assert view.needs_restart == ("limits.threads",)
    assert node_settings(read_values(under(tmp_path))).threads == 3


def test_a_flag_still_wins_over_a_changed_file(tmp_path: Path) -> None:
    preferences = Preferences(under(tmp_path), {"run.when": "always"})

    preferences.patch(patch("run.when", '"idle"'))

    assert preferences.current.limits.always


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run.when", '"sometimes"'),
        ("run.when", "1"),
        ("limits.threads", "-1"),
        ("limits.colour", "1"),
        ("run.when", "not toml"),
        ("chat.key", "5"),
        ("chat.key", '"clé"'),
    ],
)
def test_a_patch_with_one_mistake_changes_nothing(tmp_path: Path, key: str, value: str) -> None:
    preferences = Preferences(under(tmp_path), {})
    good = Pair("chat.url", '"http://x/v1"')
    before = preferences.view()

    with pytest.raises(ControlError) as caught:
        preferences.patch(SettingsPatch((good, Pair(key, value)), None))

    assert caught.value.refusal == "setting.refused"
    assert preferences.view() == before
    assert not (tmp_path / "node.toml").exists()


def test_a_patch_for_an_older_revision_is_refused(tmp_path: Path) -> None:
    preferences = Preferences(under(tmp_path), {})
    revision = preferences.view().revision
    preferences.patch(patch("chat.url", '"a"', revision))

    with pytest.raises(ControlError) as caught:
        preferences.patch(patch("chat.url", '"b"', revision))

    assert caught.value.refusal == "control.conflict"
    assert preferences.current.chat_url == "a"


def test_the_chat_key_is_kept_apart_and_private(tmp_path: Path) -> None:
    preferences = Preferences(under(tmp_path), {})
    assert preferences.chat_key() is None

    view = preferences.patch(patch("chat.key", '"nx-secret"'))

    assert preferences.chat_key() == "nx-secret"
    assert stat.S_IMODE((tmp_path / "chat-key").stat().st_mode) == 0o600
    assert "nx-secret" not in repr(view)
    assert not (tmp_path / "node.toml").exists()


def test_a_chat_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "chat-key").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="chat-key"):
        Preferences(under(tmp_path), {}).chat_key()


def test_the_file_it_writes_reads_back_the_same(tmp_path: Path) -> None:
    preferences = Preferences(under(tmp_path), {})
    preferences.patch(patch("hosts.bootstrap", '["/ip4/192.0.2.7/tcp/1/p2p/x"]'))

    again = Preferences(under(tmp_path), {})

    assert again.current.bootstrap == ("/ip4/192.0.2.7/tcp/1/p2p/x",)
    assert set(ROWS) == {pair.key for pair in again.view().pairs}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("run.hours", '["mon 9-17"]', "expected days and hours"),
        ("run.timezone", '"Nowhere/City"', "expected a time zone"),
        ("limits.cool_celsius", "90", "expected less than"),
    ],
)
def test_a_value_that_makes_no_sense_beside_the_others_is_refused(
    tmp_path: Path, key: str, value: str, words: str
) -> None:
    preferences = Preferences(under(tmp_path), {})
    before = preferences.view()

    with pytest.raises(ControlError, match=words) as caught:
        preferences.patch(patch(key, value))

    assert caught.value.refusal == "setting.refused"
    assert preferences.view() == before


def test_hours_in_the_file_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('[run]\nhours = ["always"]\n')

    with pytest.raises(ConfigError, match=r"run\.hours"):
        Preferences(under(tmp_path), {})


def test_the_schema_says_of_every_row_what_it_is_and_what_runs(tmp_path: Path) -> None:
    preferences = Preferences(under(tmp_path), {})
    preferences.patch(patch("run.idle_minutes", "7"))

    rows = {row.key: row for row in preferences.schema().rows}

    assert set(rows) == set(ROWS)
    idle = rows["run.idle_minutes"]
    assert (idle.kind, idle.value, idle.default, idle.low, idle.high) == ("int", "7", "5", 1, 60)
    assert rows["run.when"].choices == ("idle", "always")
    assert rows["run.hours"].kind == "list"
    check(preferences.schema())


def test_a_value_that_makes_no_sense_beside_a_variable_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_LIMITS_COOL_CELSIUS", "60")
    monkeypatch.setenv("NEXUS_LIMITS_HOT_CELSIUS", "70")
    preferences = Preferences(under(tmp_path), {})

    with pytest.raises(ControlError, match="expected less than"):
        preferences.patch(patch("limits.cool_celsius", "75"))

    assert not (tmp_path / "node.toml").exists()
