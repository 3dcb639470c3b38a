import csv

import numpy as np
import pytest
import reproduce
from made_up import fill, record
from matplotlib.image import imread
from suite import report
from suite.cells import BUDGETS, Cell, Results, learned, references
from suite.paper import published, statements
from suite.store import Store
from suite.trial import Protocol, Trial

from rllib_mec.evaluation import METRICS

ITEMS = {item.name: item for item in reproduce.ITEMS}


def put(store, trial, **values):
    measured = {metric: {"mean": values.get(metric, 0.0)} for metric in METRICS}
    store.write_evaluation(trial, Protocol(), {**record(trial), **measured})


@pytest.fixture
def results(configs, tmp_path):
    """Two seeds with rewards -15 and -16, the planner at -12.5, local only at -45."""
    trials = tuple(Trial("emh_ppo", seed=seed) for seed in (0, 1))
    cell = Cell("EMH-PPO", trials, {"N": 3}, paper={"reward": -17.94})
    store = Store(tmp_path / "store")
    planner, local = references(where={"N": 3})
    put(store, trials[0], reward=-15.0, latency_ms=700.0)
    put(store, trials[1], reward=-16.0, latency_ms=800.0)
    put(store, planner.trials[0], reward=-12.5, latency_ms=600.0)
    put(store, local.trials[0], reward=-45.0, latency_ms=2000.0)
    return Results([cell, planner, local], store)


def test_rewards_stand_beside_the_paper_the_planner_and_local_only(results):
    # Student's t with one degree of freedom: 12.706 * sd 0.7071 / sqrt(2) = 6.35.
    assert report.metric_table(results, "reward").splitlines() == [
        "| N | policy | paper | here | planner | here/planner | local only |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| 3 | EMH-PPO | -17.94 | -15.50 ± 6.35 | -12.50 | 1.240 | -45.00 |",
    ]


def test_latencies_say_what_is_saved_of_local_only(results):
    row = report.metric_table(results, "latency_ms").splitlines()[-1]
    assert row == "| 3 | EMH-PPO |  | 750.0 ± 635.3 | 600.0 | 1.250 | 2000.0 | 62.5 % |"


def test_the_csv_has_a_row_per_trial(results):
    rows = list(csv.DictReader(report.results_csv(results).splitlines()))
    assert [(row["policy"], row["seed"], float(row["reward"])) for row in rows] == [
        ("EMH-PPO", "0", -15.0),
        ("EMH-PPO", "1", -16.0),
        ("planner", "", -12.5),
        ("local only", "", -45.0),
    ]


def test_the_papers_numbers_stand_only_where_they_were_measured(configs):
    budget = BUDGETS["quick"]
    assert learned("EMH-PPO", budget, {"num_devices": 6}).paper["reward"] == -33.45
    assert learned("H-PPO", budget).paper["energy_j"] == 0.1355
    assert published("MAHPPO", {}, 200)["latency_ms"] == 5000.18
    assert learned("H-PPO", budget, {"num_devices": 6}).paper == {}
    assert learned("EMH-PPO", budget, {"num_servers": 3}).paper == {}
    assert learned("EMH-PPO", budget, settings={"clip_param": 0.1}).paper == {}


def test_figures_share_their_trials(configs):
    store = Store(configs)
    keys = {
        # The headline's full budget has more seeds than the others'.
        name: {trial.key for trial in ITEMS[name].results(BUDGETS["quick"], store).trials()}
        for name in ("headline", "fig6", "fig8", "fig10", "table4", "ablation")
    }
    assert keys["headline"] < keys["table4"] < keys["fig10"]
    assert keys["table4"] < keys["fig6"] <= keys["table4"] | keys["ablation"]
    assert keys["headline"] < keys["fig8"] < keys["fig10"]


def test_the_headline_has_ten_seeds_interquartile_means_and_drawn_episodes(configs):
    item, budget = ITEMS["headline"], BUDGETS["full"]
    results = item.results(budget, Store(configs))
    fill(results)
    drawn = results.find("EMH-PPO", episodes="drawn")
    rewards = sorted(row["reward"] for row in results.rows(drawn))
    assert len(rewards) == 10
    middle, low, high = results.interquartile(drawn, "reward")
    assert middle == pytest.approx(np.mean(rewards[2:8]))  # scipy rounds 2.5 off each end down
    assert rewards[0] < low < middle < high < rewards[-1]
    page = item.page(results, budget, jobs=2)
    assert "training seeds: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9;" in page
    assert f"| drawn | EMH-PPO | {middle:.3f} [{low:.3f}, {high:.3f}] |" in page
    quick = item.results(BUDGETS["quick"], results.store)
    fill(quick)
    assert "Interquartile means take four seeds" in item.page(quick, BUDGETS["quick"], jobs=2)


@pytest.mark.parametrize("name", ITEMS)
def test_every_item_writes_its_files(name, configs, tmp_path):
    item, budget = ITEMS[name], BUDGETS["quick"]
    results = item.results(budget, Store(tmp_path / "store"))
    fill(results)
    assert results.missing() == []
    item.write(results, budget, tmp_path, jobs=2)

    with (tmp_path / f"{name}.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == sum(len(cell.trials) for cell in results.cells)
    assert {row["policy"] for row in rows} >= {"planner", "local only"}
    assert (tmp_path / f"{name}_curves.csv").exists() == item.has_curves
    picture = imread(tmp_path / f"{name}.png")
    assert min(picture.shape[:2]) > 300 and picture.std() > 0.05
    page = (tmp_path / f"{name}.md").read_text()
    assert f"--only {name} --budget quick" in page and "nan" not in page
    for statement in statements(name):
        assert statement.quote in page


def test_a_policy_is_drawn_where_it_was_measured(configs, tmp_path):
    item = ITEMS["fig10"]
    results = item.results(BUDGETS["full"], Store(tmp_path))
    fill(results)
    axes = item.draw(results).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "EMH-PPO")
    expected = [results.mean("EMH-PPO", "reward", N=n) for n in range(1, 7)]
    np.testing.assert_allclose(line.get_ydata(), expected)


def test_partition_points_that_can_win_are_told_from_those_that_cannot():
    from table5_partitioning import best_alone, useful_points

    number, vertical = useful_points("mobilenet_v2", "paper", "vertical")
    _, operator = useful_points("mobilenet_v2", "paper", "operator")
    assert (number, len(vertical)) == (34, 7) and operator == vertical
    # On bits and MACs: (2, 2) lies above the line from (1, 4) to (4, 0), (2, 1) below it.
    full, ends = (0.0, 9.0, 0.0), {(1.0, 4.0, 5.0), (4.0, 0.0, 5.0)}
    assert best_alone({full, *ends, (2.0, 3.0, 5.0)}) == {full, *ends}
    assert best_alone({full, *ends, (2.0, 1.0, 5.0)}) == {full, *ends, (2.0, 1.0, 5.0)}
