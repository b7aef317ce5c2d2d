"""The steps of a flow share one deadline; a patient one has its own."""

from scripts import echo

from distcache.executor import budget as module
from distcache.executor.budget import Budget
from distcache.op import Batch

STEP, PATIENT = echo("a"), Batch([echo("b")], patient=True)


def test_steps_share_a_deadline_and_a_patient_one_has_its_own(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    budget = Budget(0.25, 100.0)

    now[0] += 0.1
    assert abs(budget.after(STEP, STEP) - 0.15) < 1e-9
    now[0] += 0.5
    assert budget.after(STEP, STEP) == 0.0
    assert budget.after(STEP, PATIENT) is None
    now[0] += 5
    assert budget.after(PATIENT, STEP) == 0.25
    now[0] += 0.2
    assert abs(budget.after(STEP, Batch([STEP])) - 0.05) < 1e-9
