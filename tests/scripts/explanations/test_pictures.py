from __future__ import annotations

import numpy as np
import pytest

from scripts.explanations.pictures import draw_answer, draw_attributions


@pytest.mark.parametrize("simulated", [True, False])
def test_only_a_picture_of_simulated_weights_says_not_for_patients(simulated):
    image = np.full((3, 8, 7), -1.0)
    figure = draw_answer(image, np.zeros((8, 7)), ["a", "b", "c"], "title", simulated)
    texts = [text.get_text() for text in figure.texts] + [figure.get_supxlabel()]
    assert any("NOT FOR PATIENTS" in text for text in texts) is simulated
    assert {"a", "b", "c"} == {axes.get_title(loc="left") for axes in figure.axes} - {""}
    sides = {text.get_text(): text.get_position()[0] for text in figure.axes[0].texts}
    assert sides["R"] < sides["L"]
    # The first column of cells is the patient's left, and drawn on the right, in every panel.
    assert all(axes.get_xlim()[0] > axes.get_xlim()[1] for axes in figure.axes)


@pytest.mark.parametrize("simulated", [True, False])
def test_attributions_stand_below_the_anatomy_with_their_shares(simulated):
    image = np.full((2, 8, 7, 5), -1.0)
    maps = {"LIME": np.ones((2, 8, 7, 5)), "GradCAM": np.ones((1, 8, 7, 5))}
    figure = draw_attributions(image, maps, ["a", "b"], {"LIME": [0.25, 0.75], "GradCAM": None}, simulated)
    assert len(figure.axes) == 3 * 2
    assert ("NOT FOR PATIENTS" in figure.get_supxlabel()) is simulated
    written = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert [words for words in written if "%" in words] == ["25 %", "75 %"]


def test_a_picture_is_drawn_in_its_colors_without_sides_of_a_patient():
    random = np.random.default_rng(0)
    image, names = random.uniform(-1, 1, (3, 8, 7)), ["blue", "red", "green"]
    figure = draw_answer(image, np.zeros((8, 7)), names, "title", sides=False)
    (shown,) = figure.axes[0].images
    np.testing.assert_allclose(shown.get_array(), (image[[1, 2, 0]].transpose(2, 1, 0) + 1) / 2)
    assert not {"L", "R"} & {text.get_text() for axes in figure.axes for text in axes.texts}
    same = np.repeat(random.normal(size=(1, 8, 7)), 3, axis=0)
    for maps, columns in (({"LIME": same, "GradCAM": same[:1]}, 1), ({"LIME": same * [[[1]], [[2]], [[3]]]}, 3)):
        drawn = draw_attributions(image, maps, names, {"LIME": [0.2, 0.3, 0.5]}, sides=False)
        assert len(drawn.axes) == (1 + len(maps)) * columns
