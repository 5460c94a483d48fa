"""Every loss against a slow loop written from the paper's formula, in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from vigorlib import losses


@pytest.fixture
def descriptors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return tuple(  # type: ignore[return-value]
        F.normalize(torch.randn(5, 12, generator=generator, dtype=torch.float64), dim=1)
        for _ in range(3)
    )


def triplet_by_hand(ground, satellite, alpha, diagonal):
    total, pairs = 0.0, len(ground)
    for i in range(pairs):
        for j in range(pairs):
            if i == j and not diagonal:
                continue
            positive = 2 - 2 * float(ground[i] @ satellite[i])
            to_satellite = 2 - 2 * float(ground[i] @ satellite[j])
            to_ground = 2 - 2 * float(ground[j] @ satellite[i])
            total += math.log1p(math.exp(alpha * (positive - to_satellite))) / 2
            total += math.log1p(math.exp(alpha * (positive - to_ground))) / 2
    return total / (pairs * (pairs - 1))


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("alpha", [5.0, 10.0, 20.0])
def test_triplet_equals_the_sum_over_all_triplets(descriptors, alpha, diagonal):
    ground, satellite, _ = descriptors
    value = losses.soft_margin_triplet(ground, satellite, alpha, include_diagonal=diagonal)
    assert float(value) == pytest.approx(
        triplet_by_hand(ground, satellite, alpha, diagonal), abs=1e-9
    )


def test_triplet_of_two_orthogonal_pairs_is_known():
    eye = torch.eye(2, dtype=torch.float64)  # d_pos = 0, d_neg = 2
    assert float(losses.soft_margin_triplet(eye, eye)) == pytest.approx(math.log1p(math.exp(-20)))


def test_the_diagonal_adds_a_constant_and_no_gradient(descriptors):
    ground, satellite, _ = (x.clone().requires_grad_() for x in descriptors)
    with_diagonal = losses.soft_margin_triplet(ground, satellite, include_diagonal=True)
    without = losses.soft_margin_triplet(ground, satellite)
    assert float((with_diagonal - without).detach()) == pytest.approx(math.log(2) / 4)
    (gradient,) = torch.autograd.grad(with_diagonal - without, ground)
    assert gradient.abs().max() < 1e-12


def test_triplet_does_not_depend_on_the_order_of_the_batch(descriptors):
    ground, satellite, _ = descriptors
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        losses.soft_margin_triplet(ground[order], satellite[order]),
        losses.soft_margin_triplet(ground, satellite),
    )


def test_triplet_stays_finite_where_exp_overflows():
    ground = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert torch.isfinite(losses.soft_margin_triplet(ground, -ground, alpha=1000.0))


def test_triplet_shrinks_when_positives_come_closer(descriptors):
    ground, satellite, _ = descriptors
    closer = F.normalize(satellite + ground, dim=1)
    assert losses.soft_margin_triplet(ground, closer) < losses.soft_margin_triplet(
        ground, satellite
    )


def test_iou_loss_equals_the_formula(descriptors):
    ground, positive, semi = descriptors
    iou_positive = torch.tensor([0.62, 0.4, 0.9, 0.5, 0.7], dtype=torch.float64)
    iou_semi = torch.tensor([0.3, 0.39, 0.15, 0.2, 0.25], dtype=torch.float64)
    by_hand = 0.0
    for g, p, s, a, b in zip(ground, positive, semi, iou_positive, iou_semi, strict=True):
        by_hand += (float(g @ s) / float(g @ p) - float(b) / float(a)) ** 2 / 5
    value = losses.iou_semi_positive(ground, positive, semi, iou_positive, iou_semi)
    assert float(value) == pytest.approx(by_hand, rel=1e-9)


def test_iou_loss_is_zero_where_similarities_follow_the_overlap():
    ground = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    positive = torch.tensor([[0.8, 0.6]], dtype=torch.float64)
    semi = torch.tensor([[0.4, math.sqrt(1 - 0.16)]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    value = losses.iou_semi_positive(ground, positive, semi, 0.6 * one, 0.3 * one)
    assert float(value) == pytest.approx(0.0, abs=1e-12)


def test_the_floor_tames_a_vanishing_denominator():
    ground = torch.tensor([[1.0, 0.0]])
    orthogonal = torch.tensor([[1e-4, 1.0]])
    semi = torch.tensor([[0.5, 0.75**0.5]])
    iou = torch.tensor([0.62]), torch.tensor([0.3])
    wild = losses.iou_semi_positive(ground, orthogonal, semi, *iou)
    tame = losses.iou_semi_positive(ground, orthogonal, semi, *iou, floor=0.1)
    assert wild > 1e5 and tame < 25


def test_offset_loss_sums_axes_and_averages_pairs():
    predicted = torch.tensor([[0.5, 0.0], [0.0, 0.0]])
    target = torch.tensor([[0.0, 1.0], [0.0, 0.5]])
    assert float(losses.offset_regression(predicted, target)) == pytest.approx((1.25 + 0.25) / 2)


def test_gradients_are_those_of_the_formulas(descriptors):
    ground, positive, semi = (x[:3].clone().requires_grad_() for x in descriptors)
    iou = torch.full((3,), 0.6, dtype=torch.float64), torch.full((3,), 0.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(losses.soft_margin_triplet, (ground, positive))
    assert torch.autograd.gradcheck(losses.iou_semi_positive, (ground, positive, semi, *iou))
    offsets = [x[:, :2].detach().clone().requires_grad_() for x in (ground, positive)]
    assert torch.autograd.gradcheck(losses.offset_regression, tuple(offsets))


def test_wrong_shapes_name_what_was_expected():
    with pytest.raises(ValueError, match=r"ground \(3, 4\), satellite \(2, 4\)"):
        losses.soft_margin_triplet(torch.zeros(3, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="no negatives"):
        losses.soft_margin_triplet(torch.zeros(1, 4), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"expected \(3,\)"):
        three = torch.zeros(3, 4)
        losses.iou_semi_positive(three, three, three, torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match=r"expected \(B, 2\)"):
        losses.offset_regression(torch.zeros(3, 4), torch.zeros(3, 4))


def test_a_semi_positive_taken_for_a_negative_is_pushed_beyond_the_positive(descriptors):
    ground, positive, semi = descriptors
    by_hand = [
        math.log1p(math.exp(10 * ((2 - 2 * g @ p) - (2 - 2 * g @ s))))
        for g, p, s in zip(ground, positive, semi, strict=True)
    ]
    loss = losses.semi_positive_as_negative(ground, positive, semi, 10.0)
    assert float(loss) == pytest.approx(sum(by_hand) / len(by_hand))
    assert losses.semi_positive_as_negative(ground, ground, -ground) < 1e-8


def test_offset_classes_are_the_cross_entropy_of_the_right_cell():
    scores = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    loss = losses.offset_classification(scores, torch.tensor([1, 0]))
    assert float(loss) == pytest.approx((-math.log(3 / 4) - math.log(1 / 2)) / 2)


@pytest.mark.parametrize(
    ("scores", "cell", "message"),
    [
        (torch.zeros(4), torch.zeros(4).long(), "expected \\(B, cells"),
        (torch.zeros(2, 4), torch.zeros(3).long(), "expected \\(2,\\)"),
    ],
)
def test_cells_that_do_not_fit_their_scores_are_refused(scores, cell, message):
    with pytest.raises(ValueError, match=message):
        losses.offset_classification(scores, cell)
