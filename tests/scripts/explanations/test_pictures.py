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


@pytest.mark.parametrize("simulated", [True, False])
def test_attributions_stand_below_the_anatomy_with_their_shares(simulated):
    image = np.full((2, 8, 7, 5), -1.0)
    maps = {"LIME": np.ones((2, 8, 7, 5)), "GradCAM": np.ones((1, 8, 7, 5))}
    figure = draw_attributions(image, maps, ["a", "b"], {"LIME": [0.25, 0.75], "GradCAM": None}, simulated)
    assert len(figure.axes) == 3 * 2
    assert ("NOT FOR PATIENTS" in figure.get_supxlabel()) is simulated
    written = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert [words for words in written if "%" in words] == ["25 %", "75 %"]
