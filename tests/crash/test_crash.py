"""A real server dies at random, and at each of its commits; official clients lose nothing, and see nothing twice.

``ANTIPHON_CRASH_KILLS`` makes it longer; ``harness.py`` by itself says more.
"""

import asyncio
import os
import random
from pathlib import Path

import harness
import pytest

KILLS = int(os.environ.get("ANTIPHON_CRASH_KILLS", "25"))


@pytest.mark.timeout(60 + 20 * KILLS)
def test_nothing_is_lost_or_doubled_however_it_dies(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    findings = asyncio.run(harness.chaos(KILLS, 4, seed, tmp_path))
    assert findings.faults == [], f"seed {seed}: {findings.summary()}"
    assert findings.kills == KILLS and findings.acknowledged == findings.responses > 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", ["before", "after"])
def test_it_may_die_at_every_commit(tmp_path: Path, where: str) -> None:
    findings = asyncio.run(harness.at_each_commit(where, tmp_path))
    assert findings.faults == [], findings.summary()
    assert findings.kills >= 12, "a response with a tool takes that many commits"
