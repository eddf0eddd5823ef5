"""Contestants that take turns: each told in turn, whatever else they say."""

import sys

import pytest

from benchmarks.ctr_pace import costs
from benchmarks.ctr_peers import ROOT

TALKS = """
import sys, time
from benchmarks.ctr_pace import keep_pace
trained = []
def train():
    trained.append(1)
    print("epoch 1/1")
    begin = time.process_time()
    while time.process_time() - begin < float(sys.argv[1]) * (len(trained) > 1):
        pass
keep_pace(train)
"""


def test_costs_are_the_cpu_of_each_turn():
    commands = {
        name: [sys.executable, "-c", TALKS, str(seconds)]
        for name, seconds in (("slow", 0.2), ("fast", 0.05))
    }
    seconds = costs(commands, 2, ROOT)
    for name, expected in (("slow", 0.2), ("fast", 0.05)):
        assert len(seconds[name]) == 2
        assert all(expected <= cost < expected + 0.1 for cost in seconds[name])


def test_contestant_that_ends_is_an_error_with_its_last_words():
    command = [sys.executable, "-c", "raise SystemExit('no such table')"]
    with pytest.raises(RuntimeError, match="`it` ended early:\\n.*no such table"):
        costs({"it": command}, 1, ROOT)
