"""The measure of likeness fits what an output is, and the output that suffers most counts."""

import numpy as np
import pytest

from edgec.data import agreement, closeness, direction, likeness, suited

RANDOM = np.random.default_rng(5)
LOGITS = RANDOM.normal(size=(1, 10)).astype(np.float32)
PROBABILITIES = np.exp(RANDOM.normal(size=(1, 20, 5)))
PROBABILITIES /= PROBABILITIES.sum(-1, keepdims=True)
UNIT = RANDOM.normal(size=(2, 64))
UNIT /= np.linalg.norm(UNIT, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "output, measure",
    [
        (LOGITS, agreement),
        (PROBABILITIES, agreement),
        (UNIT, direction),
        (np.array([[0.25]]), agreement),
        (np.array([[21.5]]), closeness),
        (RANDOM.normal(size=(1, 100, 4)), closeness),
        (RANDOM.integers(0, 255, (1, 8, 8, 3)), closeness),
        (RANDOM.integers(0, 3, (1, 1, 32, 32)), agreement),
        (np.array([7]), agreement),
        (np.array(["cat"], object), agreement),
        (np.full((1, 10), np.nan), agreement),
        (np.full((1, 3, 10), np.inf), closeness),
        (np.zeros((1, 0)), agreement),
        (np.array(0.5), agreement),
    ],
)
def test_the_measure_fits_the_output(output, measure):
    assert suited([[output], [output]]) is measure
    if output.size:
        score = likeness([[output], [output]], [[output.copy()], [output.copy()]])
        assert score.value == pytest.approx(1.0) and score.n == 2 and len(score.per_sample) == 2


def test_rows_of_any_number_of_positions_are_looked_at_together():
    assert suited([[PROBABILITIES], [PROBABILITIES[:, :3]]]) is agreement


def test_the_output_that_suffers_most_counts():
    boxes = RANDOM.normal(size=(1, 100, 4))
    score = likeness([[PROBABILITIES, boxes]], [[PROBABILITIES, boxes + np.sqrt(0.2) * np.std(boxes)]])
    assert score.metric == "closeness" and score.value == pytest.approx(0.8, abs=0.02)
    assert score.extra["output_0"] == 1.0


def test_direction_ignores_length_and_not_the_sign():
    assert direction([[UNIT]], [[3 * UNIT]]).value == pytest.approx(1.0)
    assert direction([[UNIT]], [[-UNIT]]).value == 0.0
    assert direction([[UNIT]], [[UNIT * np.nan]]).value == 0.0


def test_samples_and_shapes_must_be_the_same():
    for measure in (agreement, closeness, direction, likeness):
        with pytest.raises(ValueError):
            measure([[LOGITS]], [])
        with pytest.raises(ValueError):
            measure([[UNIT]], [[UNIT[:1]]])


def test_labels_agree_only_where_they_are_equal():
    assert agreement([[np.array([7])]], [[np.array([3])]]).value == 0.0  # both are over 0.5
    assert agreement([[np.array(["cat"], object)]], [[np.array(["dog"], object)]]).value == 0.0
    assert agreement([[np.array([True, False])]], [[np.array([True, True])]]).value == 0.5


def test_images_are_no_decisions_and_are_held_by_their_energy():
    image = np.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    assert suited([[image]]) is closeness
    noisy = image + np.sqrt(0.01 * np.mean(image**2))
    assert closeness([[image]], [[noisy]]).value == pytest.approx(0.99)  # 20 dB
    assert closeness([[image]], [[-9 * image]]).value == 0.0
    assert closeness([[np.zeros((1, 1, 2, 2))]], [[np.zeros((1, 1, 2, 2))]]).value == 1.0
    assert closeness([[image * np.nan]], [[image]]).value == 0.0
