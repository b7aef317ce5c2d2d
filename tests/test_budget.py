"""The steps of a flow share one deadline; a patient one has its own."""

from scripts import echo

from distcache.executor import budget as module
from distcache.executor.budget import Budget
from distcache.op import Batch

STEP, PATIENT = echo("a"), Batch([echo("b")], patient=True)


def test_steps_share_a_deadline_and_a_patient_one_has_its_own(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    budget = Budget(0.25)
    assert budget.left is None

    now[0] += 0.1
    budget.spent(STEP, STEP)
    assert abs(budget.left - 0.15) < 1e-9
    now[0] += 0.5
    budget.spent(STEP, STEP)
    assert budget.left == 0.0
    budget.spent(STEP, PATIENT)
    assert budget.left is None
    now[0] += 5
    budget.spent(PATIENT, STEP)
    assert budget.left == 0.25
    now[0] += 0.2
    budget.spent(STEP, Batch([STEP]))
    assert abs(budget.left - 0.05) < 1e-9
