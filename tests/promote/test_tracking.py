"""The queries that read MLflow's tables, held to what the real MLflow says through its client."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmops.errors import InputError, MachineError
from glmops.promote import approvals, promotion, registry, tracking, versions
from glmops.promote.connection import connected, find_experiment, find_run
from glmops.storage import sha256_tree


def of_client(root: Path, digest: str) -> tuple[bool, bool, dict[str, str]]:
    """(run, candidate version, aliases → digests) as MLflow's own client reports them."""
    with connected(root) as client:
        experiment = find_experiment(client, "demo")
        run = find_run(client, experiment, digest, "candidate") if experiment else None
        held = versions.find(client, "demo-candidates", digest)
        model = versions.registered_model(client, "demo")
        named = {
            alias: client.get_model_version_by_alias("demo", alias).tags["glmops.digest"]
            for alias in (model.aliases if model else {})
        }
    active = run is not None and run.info.lifecycle_stage == "active"
    return active and run.info.status == "FINISHED", held is not None, named


def of_tables(root: Path, digest: str) -> tuple[bool, bool, dict[str, str]]:
    file = tracking.database(root)
    assert file is not None
    run = tracking.has_run(file, "demo", digest)
    held = tracking.package_folder(file, "demo-candidates", digest)
    return run, held is not None, tracking.aliases(file, "demo")


def test_the_tables_say_what_the_client_says_through_a_candidates_whole_life(workshop) -> None:
    root, seen = workshop.root, []

    def compare() -> None:
        assert of_tables(root, digest) == of_client(root, digest)
        seen.append(of_tables(root, digest))

    digest = "0" * 64
    compare()
    digest = workshop.register().digest
    compare()
    approvals.approve(root, "demo", digest, actor="alice")
    promotion.promote(root, "demo", digest, actor="carol")
    compare()
    with connected(root) as client:
        run = client.search_runs([find_experiment(client, "demo")])[0]
        for harm, mend in (
            (
                lambda: client.delete_run(run.info.run_id),
                lambda: client.restore_run(run.info.run_id),
            ),
            (
                lambda: client.update_run(run.info.run_id, "RUNNING"),
                lambda: client.set_terminated(run.info.run_id),
            ),
            (lambda: client.delete_registered_model_alias("demo", "champion"), None),
            (lambda: client.delete_model_version("demo-candidates", "1"), None),
        ):
            harm()
            compare()
            if mend:
                mend()
    nothing, run_and_version = (False, False, {}), (True, True, {})
    champion = {"champion": digest}
    assert seen == [
        nothing,
        run_and_version,
        (True, True, champion),
        (False, True, champion),
        (False, True, champion),
        (True, True, {}),
        (True, False, {}),
    ]


def test_a_champions_own_run_and_version_are_no_candidate(workshop) -> None:
    digest = workshop.register().digest
    approvals.approve(workshop.root, "demo", digest, actor="alice")
    promotion.promote(workshop.root, "demo", digest, actor="carol")
    with connected(workshop.root) as client:
        client.delete_registered_model("demo-candidates")
    assert not registry.glance(workshop.root, "demo", digest)
    assert registry.glance(workshop.root, "demo", digest, with_version=False)


def test_a_project_without_mlflow_is_read_without_making_one(tmp_path: Path) -> None:
    assert not registry.glance(tmp_path, "demo", "0" * 64)
    assert registry.aliases(tmp_path, "demo") == {}
    with pytest.raises(InputError, match="no package of this digest is stored"):
        registry.find_package(tmp_path, "demo", "0" * 64)
    (tmp_path / "mlflow.db").touch()  # as after a kill at the very beginning
    assert not registry.glance(tmp_path, "demo", "0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_database_killed_while_it_was_made_is_made_anew(empty_mlflow: Path) -> None:
    """MLflow itself never opens a half-migrated SQLite file again, hence the draft."""
    assert [path.name for path in empty_mlflow.parent.iterdir()] == ["mlflow.db"]
    assert tracking.aliases(empty_mlflow, "demo") == {}


def test_a_plain_mlflow_in_the_project_shows_the_same_store(workshop, monkeypatch) -> None:
    """`mlflow ui` opens MLflow's default, relative to the folder it is started in."""
    from mlflow import MlflowClient
    from mlflow.store.tracking import DEFAULT_TRACKING_URI

    digest = workshop.register().digest
    monkeypatch.chdir(workshop.root)
    client = MlflowClient(DEFAULT_TRACKING_URI, DEFAULT_TRACKING_URI)
    (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert run.data.tags["glmops.digest"] == digest
    # MLflow falls back to ./mlruns where that exists, and would then show nothing of ours.
    assert not (workshop.root / "mlruns").exists()


def test_nothing_is_written_outside_the_project(workshop, tmp_path: Path, monkeypatch) -> None:
    """MLflow puts ./mlruns or ./mlflow.db into the current folder when one lets it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    digest = workshop.register().digest
    approvals.approve(workshop.root, "demo", digest, actor="alice")
    promotion.promote(workshop.root, "demo", digest, actor="carol")
    assert list(elsewhere.iterdir()) == []
    assert not [name for name in sha256_tree(workshop.root) if name.startswith("mlruns")]


def test_a_stored_package_names_its_loader_and_needs_no_guessing(workshop) -> None:
    import yaml

    digest = workshop.register().digest
    folder = registry.fetch(workshop.root, "demo-candidates", digest).parents[1]
    flavour = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["python_function"]
    assert flavour["loader_module"] == "glmops.serve.predict"
    assert flavour["data"] == "data/package"
    needed = (folder / "requirements.txt").read_text().splitlines()
    assert "glmops[serve]==0.1.0" in needed
    assert all("==" in line and "+" not in line for line in needed)
    assert not list(folder.rglob("*.pkl"))


@pytest.mark.parametrize(
    ("uri", "path"),
    [("/a b/c", "/a b/c"), ("file:///a%20b/%E9%A1%B9", "/a b/项"), ("s3://bucket/x", None)],
)
def test_only_an_address_on_this_machine_is_a_path(uri: str, path: str | None) -> None:
    assert tracking.local_path(uri) == (Path(path) if path else None)


def test_a_server_that_is_down_is_one_clear_error(workshop, monkeypatch) -> None:
    monkeypatch.setenv("GLMOPS_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MachineError, match="MLflow: the request failed"):
        workshop.register()
