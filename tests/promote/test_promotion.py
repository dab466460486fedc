from __future__ import annotations

import json
import shutil

import pytest

from glmops.errors import InputError, IntegrityError, RecipeError, RefusedError
from glmops.promote import approvals, ledger, package, promotion, registry
from glmops.promote.connection import connected


def registered(workshop, weights: str, **values) -> str:
    """The digest of another candidate that waits for review."""
    workshop.train(weights, **values)
    done = workshop.register()
    assert done.verdict.passed, done.verdict.reasons
    return done.digest


def promoted(workshop, weights: str, **values) -> str:
    digest = registered(workshop, weights, **values)
    approvals.approve(workshop.root, "demo", digest, actor="alice")
    assert promotion.promote(workshop.root, "demo", digest, actor="carol").changed
    return digest


def stands(workshop) -> tuple[str | None, str | None]:
    entry = promotion.status(workshop.root, "demo")[0]
    assert entry["warnings"] == []
    return entry["champion"], entry["previous"]


def kinds(workshop) -> list[str]:
    return [entry.kind for entry in ledger.read(workshop.root)]


def test_an_approved_candidate_becomes_champion_and_both_books_say_so(workshop) -> None:
    digest = promoted(workshop, "first")
    assert stands(workshop) == (digest, None)
    assert kinds(workshop) == ["gate", "register", "approve", "promote"]
    with connected(workshop.root) as client:
        champion = client.get_model_version_by_alias("demo", "champion")
    assert champion.tags["glmops.digest"] == digest
    assert registry.aliases(workshop.root, "demo") == {"champion": digest}


def test_promotion_without_approval_is_refused_and_says_what_to_do(workshop) -> None:
    digest = registered(workshop, "first")
    with pytest.raises(RefusedError, match="1 of 1 approvals missing") as refused:
        promotion.promote(workshop.root, "demo", digest[:8], actor="carol")
    assert f"glmops approve demo {digest[:12]} --as" in str(refused.value)
    assert refused.value.exit_code == 3
    assert workshop.mlflow_rows()["champions"] == 0


def test_promoting_twice_changes_nothing_and_says_so(workshop) -> None:
    digest = promoted(workshop, "first")
    before = workshop.mlflow_rows(), kinds(workshop)
    again = promotion.promote(workshop.root, "demo", digest, actor="dave")
    assert not again.changed
    assert "already: nothing changed" in again.sentence
    assert (workshop.mlflow_rows(), kinds(workshop)) == before


def test_a_champion_survives_the_deletion_of_all_candidates(workshop) -> None:
    """MLflow's own copy of a version shares its files with the source; ours does not."""
    digest = promoted(workshop, "first")
    shutil.rmtree(workshop.root / "mlartifacts" / "demo")
    shutil.rmtree(workshop.layout.model)
    with connected(workshop.root) as client:
        client.delete_registered_model("demo-candidates")
        client.delete_experiment(client.get_experiment_by_name("demo").experiment_id)
    folder = promotion.champion_folder(workshop.root, "demo")
    assert (folder / "model" / "model.safetensors").read_bytes() == b"first" * 1000
    assert package.verify(folder).digest == digest


def test_a_second_champion_keeps_the_first_as_previous_and_rollback_returns_it(workshop) -> None:
    first = promoted(workshop, "first")
    second = promoted(workshop, "second")
    assert stands(workshop) == (second, first)
    done = promotion.rollback(workshop.root, "demo", actor="erin", reason="it leaks names")
    assert done.digest == first
    assert stands(workshop) == (first, None)
    last = ledger.read(workshop.root)[-1]
    assert (last.kind, last.digest, last.champion) == ("rollback", first, second)
    assert (last.actor, last.reason) == ("erin", "it leaks names")
    with pytest.raises(RefusedError, match="no champion before this one"):
        promotion.rollback(workshop.root, "demo", actor="erin")
    assert workshop.mlflow_rows()["champions"] == 2


def test_rollbacks_go_back_one_champion_at_a_time_and_forward_is_a_promotion(workshop) -> None:
    first, second, third = (promoted(workshop, name) for name in ("a", "b", "c"))
    assert promotion.rollback(workshop.root, "demo", actor="erin").digest == second
    assert stands(workshop) == (second, first)
    with pytest.raises(RefusedError, match="void: the champion has changed"):
        promotion.promote(workshop.root, "demo", third, actor="erin")
    approvals.approve(workshop.root, "demo", third, actor="bob")
    promotion.promote(workshop.root, "demo", third, actor="erin")
    assert stands(workshop) == (third, second)


def test_nothing_to_roll_back_to_is_refused(workshop) -> None:
    registered(workshop, "first")
    with pytest.raises(RefusedError, match="no champion yet"):
        promotion.rollback(workshop.root, "demo", actor="erin")


def test_a_champion_registered_again_is_nothing_new(workshop) -> None:
    first = promoted(workshop, "first")
    promoted(workshop, "second")
    promotion.rollback(workshop.root, "demo", actor="erin")
    workshop.train("first")
    before = workshop.mlflow_rows(), kinds(workshop)
    assert workshop.register().digest == first  # writes the report, which showed the second
    assert workshop.register().already
    assert workshop.already() is not None
    assert (workshop.mlflow_rows(), kinds(workshop)) == before


def test_a_candidate_is_judged_against_the_champion_of_that_moment(workshop) -> None:
    promoted(workshop, "first", right=112)
    better = promoted(workshop, "second", right=119)
    workshop.train("third", right=112)
    third = workshop.register()
    assert third.verdict.outcome == "refused"
    assert third.verdict.checks[0].champion == pytest.approx(119 / 120)
    promotion.rollback(workshop.root, "demo", actor="erin")
    assert workshop.already() is None
    assert workshop.register().verdict.passed  # as good as the champion of 112
    assert better not in stands(workshop)


def test_approval_and_promotion_let_the_gate_decide_anew_when_the_champion_changed(
    workshop,
) -> None:
    third = registered(workshop, "third", right=110)
    approvals.approve(workshop.root, "demo", third, actor="alice")
    promoted(workshop, "better", right=120)
    with pytest.raises(RefusedError, match=r"the champion has 1\.0000"):
        promotion.promote(workshop.root, "demo", third, actor="carol")
    with pytest.raises(RefusedError, match="the gate says refused"):
        approvals.approve(workshop.root, "demo", third, actor="bob")
    gates = [e for e in ledger.read(workshop.root) if e.kind == "gate" and e.digest == third]
    assert [entry.decision for entry in gates] == ["passed", "refused"]
    with connected(workshop.root) as client:
        found = client.search_model_versions(
            f"name='demo-candidates' and tags.`glmops.digest`='{third}'"
        )
    assert found[0].tags["glmops.verdict"] == "refused"


def test_new_rules_void_approvals_and_are_judged_at_promotion(workshop) -> None:
    digest = registered(workshop, "first")
    approvals.approve(workshop.root, "demo", digest, actor="alice")
    workshop.rules(min_rows=2)
    with pytest.raises(RefusedError, match="alice's is void: the rules have changed"):
        promotion.promote(workshop.root, "demo", digest, actor="carol")
    approvals.approve(workshop.root, "demo", digest, actor="alice")
    assert promotion.promote(workshop.root, "demo", digest, actor="carol").changed


def test_a_refused_candidate_has_to_be_run_again_under_new_rules(workshop) -> None:
    workshop.train("bad", right=90)
    digest = workshop.register().digest
    workshop.rules(floors={"classification/accuracy": 0.5, "triples/f1": 0.5})
    with pytest.raises(RefusedError, match="Run `glmops run demo` again"):
        approvals.approve(workshop.root, "demo", digest, actor="alice")
    assert workshop.register().verdict.passed
    approvals.approve(workshop.root, "demo", digest, actor="alice")


def test_a_champion_that_cannot_answer_other_test_rows_is_not_compared(workshop) -> None:
    promoted(workshop, "first")  # its weights are no weights
    workshop.train("second", test="other rows")
    with pytest.raises(RefusedError, match="could not be scored on the candidate's test rows"):
        workshop.register()


def test_harmed_bytes_are_never_promoted(workshop) -> None:
    digest = registered(workshop, "first")
    approvals.approve(workshop.root, "demo", digest, actor="alice")
    stored = registry.fetch(workshop.root, "demo-candidates", digest)
    weights = stored / "model" / "model.safetensors"
    weights.write_bytes(b"First" + weights.read_bytes()[5:])
    with pytest.raises(IntegrityError, match=r"model/model\.safetensors"):
        promotion.promote(workshop.root, "demo", digest, actor="carol")
    assert "promote" not in kinds(workshop)
    assert workshop.mlflow_rows()["champions"] == 0


def test_a_harmed_champion_is_not_served(workshop) -> None:
    promoted(workshop, "first")
    (promotion.champion_folder(workshop.root, "demo") / "model" / "config.json").write_text("{} ")
    with pytest.raises(IntegrityError, match=r"model/config\.json"):
        promotion.champion_folder(workshop.root, "demo")


def test_no_champion_is_one_clear_error(workshop) -> None:
    with pytest.raises(InputError, match="there is no champion yet"):
        promotion.champion_folder(workshop.root, "demo")
    with pytest.raises(RecipeError, match="no such recipe, got 'nope'"):
        promotion.champion_folder(workshop.root, "nope")


@pytest.mark.parametrize(
    "harm",
    [
        lambda client: client.set_registered_model_alias("demo", "champion", "1"),
        lambda client: client.delete_model_version("demo", "2"),
        lambda client: client.delete_registered_model("demo"),
    ],
)
def test_mlflow_is_mended_by_promoting_the_champion_again(workshop, harm) -> None:
    first = promoted(workshop, "first")
    second = promoted(workshop, "second")
    with connected(workshop.root) as client:
        harm(client)
    warnings = promotion.status(workshop.root, "demo")[0]["warnings"]
    assert any("MLflow's alias champion" in warning for warning in warnings)
    assert any(f"glmops promote demo {second[:12]}" in warning for warning in warnings)
    before = kinds(workshop)
    assert promotion.promote(workshop.root, "demo", second, actor="carol").changed
    assert kinds(workshop) == before
    # A deleted registered model takes the earlier champion's version with it.
    held = registry.aliases(workshop.root, "demo")
    assert held["champion"] == second
    assert held.get("previous", first) == first


STEPS = [
    "mlflow.MlflowClient:create_run",
    "mlflow.MlflowClient:log_model_artifacts",
    "mlflow.MlflowClient:create_model_version",
    "mlflow.MlflowClient:set_registered_model_alias",
    "glmops.promote.ledger:append",
]


@pytest.mark.parametrize("step", STEPS)
def test_a_promotion_killed_after_any_step_ends_the_same_when_run_again(
    workshop, step: str
) -> None:
    first = promoted(workshop, "first")
    second = registered(workshop, "second")
    approvals.approve(workshop.root, "demo", second, actor="alice")
    workshop.killed_after(
        step, lambda: promotion.promote(workshop.root, "demo", second, actor="carol")
    )
    promotion.promote(workshop.root, "demo", second, actor="carol")
    assert stands(workshop) == (second, first)
    assert workshop.mlflow_rows()["champions"] == 2
    assert kinds(workshop).count("promote") == 2
    copies = workshop.root / "mlartifacts" / "demo-champions" / "models"
    assert len(list(copies.iterdir())) == 2


def test_a_rollback_killed_before_its_entry_goes_back_one_step_not_two(workshop) -> None:
    first, second, _ = (promoted(workshop, name) for name in ("a", "b", "c"))
    workshop.killed_after(
        "mlflow.MlflowClient:set_registered_model_alias",
        lambda: promotion.rollback(workshop.root, "demo", actor="erin"),
    )
    promotion.rollback(workshop.root, "demo", actor="erin")
    assert stands(workshop) == (second, first)


def test_a_champion_that_moved_meanwhile_is_not_overwritten(workshop, monkeypatch) -> None:
    """Another machine on the same ledger; here its entry arrives while the package is copied."""
    first = promoted(workshop, "first")
    second = registered(workshop, "second")
    approvals.approve(workshop.root, "demo", second, actor="alice")
    real = registry.ensure_champion

    def overtaken(*arguments, **named) -> bool:
        other = ledger.Entry("promote", "demo", "f" * 64, "zoe", "champion", champion=first)
        ledger.append(workshop.root, other)
        return real(*arguments, **named)

    monkeypatch.setattr(registry, "ensure_champion", overtaken)
    with pytest.raises(RefusedError, match="another process changed the champion"):
        promotion.promote(workshop.root, "demo", second, actor="carol")
    assert kinds(workshop).count("promote") == 2


def test_a_wiped_tracking_database_loses_no_champion(workshop, wiped) -> None:
    """The packages still lie among the artifacts; promoting the champion again lists it anew."""
    digest = promoted(workshop, "first")
    again = wiped(workshop)
    assert package.verify(promotion.champion_folder(again.root, "demo")).digest == digest
    done = promotion.promote(again.root, "demo", digest, actor="carol")
    assert "MLflow lacked it" in done.sentence
    assert stands(again) == (digest, None)


def test_a_promotion_records_who_approved_and_that_nobody_signed(workshop) -> None:
    promoted(workshop, "first")
    last = ledger.read(workshop.root)[-1]
    assert last.signature is None
    (given,) = (last.payload or {})["approvals"]
    assert (given["actor"], given["kind"]) == ("alice", "unsigned")
    json.dumps(promotion.status(workshop.root))
