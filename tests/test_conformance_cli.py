"""A gateway's command line: version, configuration, doctor."""

from __future__ import annotations

import json

from gateway_questions import edited, lint
from gateways import Gateway, Kind

pytest_plugins = ["gateway_fixture"]


def test_version_names_the_package(kind: Kind, spare: Gateway) -> None:
    package = json.loads((kind.entry.parent / "package.json").read_text())
    done = spare.cli("--version")
    assert done.returncode == 0
    assert done.stdout.startswith(f"OpenClaw {package['version']} (")


def test_unknown_command_is_an_error(spare: Gateway) -> None:
    done = spare.cli("nonsense")
    assert done.returncode == 1
    assert 'does not know the command "nonsense"' in done.stderr


def test_valid_configuration(spare: Gateway) -> None:
    done = spare.cli("config", "validate", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"valid": True, "path": str(spare.config_path), "warnings": []}


def test_every_mistake_in_the_configuration_is_named(spare: Gateway) -> None:
    edited(spare, lambda config: (config.update(bogus=1), config["gateway"].update(port="abc")))
    done = spare.cli("config", "validate", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert answer["ok"] is False and answer["valid"] is False and answer["path"] == str(spare.config_path)
    assert sorted((issue["path"], issue["message"]) for issue in answer["issues"]) == [
        ("<root>", 'Unrecognized key: "bogus"'),
        ("gateway.port", "Invalid input: expected number, received string"),
    ]


def test_unparsable_configuration(spare: Gateway) -> None:
    spare.config_path.write_text('{"gateway": {')
    done = spare.cli("config", "validate", "--json")
    assert done.returncode == 1
    (issue,) = json.loads(done.stdout)["issues"]
    assert issue["path"] == "<root>" and issue["message"].startswith("JSON5 parse failed")


def test_missing_configuration(spare: Gateway) -> None:
    spare.config_path.unlink()
    done = spare.cli("config", "validate", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["message"] == "file not found"


def test_names_in_the_configuration_come_from_the_environment(spare: Gateway) -> None:
    edited(spare, lambda config: config["hooks"].update(token="${A_HOOK_TOKEN}"))
    without = spare.cli("config", "validate", "--json")
    with_it = spare.cli("config", "validate", "--json", env={"A_HOOK_TOKEN": "x" * 20})
    assert without.returncode == 0, "a missing name is a warning, not a mistake"
    (warning,) = json.loads(without.stdout)["warnings"]
    assert warning["path"] == "hooks.token" and 'Missing env var "A_HOOK_TOKEN"' in warning["message"]
    assert json.loads(with_it.stdout)["warnings"] == []


def test_doctor_finds_nothing(primary: Gateway) -> None:
    code, out = lint(primary)
    answer = json.loads([line for line in out.splitlines() if line.startswith('{"schemaVersion"')][-1])
    assert code == 0
    assert answer["ok"] is True and answer["findings"] == [] and answer["checksRun"] > 0


def test_doctor_finds_a_mistake(spare: Gateway) -> None:
    edited(spare, lambda config: config.update(bogus=1))
    code, out = lint(spare)
    answer = json.loads([line for line in out.splitlines() if line.startswith('{"schemaVersion"')][-1])
    assert code == 1
    assert answer["ok"] is False
    (finding,) = answer["findings"]
    assert finding["severity"] == "error" and finding["message"] == 'Unrecognized key: "bogus"'
