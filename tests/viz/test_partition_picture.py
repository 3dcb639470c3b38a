import pytest

from rllib_mec.dnn import partition_table
from rllib_mec.dnn.layout import lay_out
from rllib_mec.errors import MecError
from rllib_mec.viz.partition import draw


@pytest.mark.parametrize("dnn", ["googlenet", "resnet18"])
def test_no_two_operators_are_drawn_in_one_place(dnn):
    graph = partition_table(dnn).point(0).graph
    layout = lay_out(graph)
    places = {layout.position(i) for i in range(len(graph.nodes))}
    assert len(places) == len(graph.nodes)
    for child, parents in enumerate(graph.parent_ids):
        for parent in parents:  # reading order: to the right, or in a row below
            order = [(layout.row[i], layout.x[i]) for i in (parent, child)]
            assert order[0] < order[1]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture_is_written(tmp_path, suffix):
    draw(partition_table("resnet18"), 1, tmp_path / f"cut{suffix}")
    assert (tmp_path / f"cut{suffix}").stat().st_size > 10_000


def test_bad_input_is_one_clear_line(tmp_path):
    table = partition_table("resnet18")
    with pytest.raises(MecError, match="point 50 is out of range"):
        draw(table, 50, tmp_path / "cut.png")
    with pytest.raises(MecError, match="must end with one of"):
        draw(table, 1, tmp_path / "cut.xyz")
    assert not list(tmp_path.iterdir())
