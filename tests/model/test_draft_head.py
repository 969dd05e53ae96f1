"""The draft head against its equations in numpy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nezha_lite.model.draft_head import TRANSITIONS, DraftHead
from tests.helpers.builders import RADICES

WIDTH, TARGETS = 6, 5


def random_head(
    transition: str, dropout: float = 0.0, width: int = WIDTH, placeholders: bool = True
) -> DraftHead:
    generator = torch.Generator().manual_seed(0)
    head = DraftHead(RADICES, width, transition, dropout, placeholders).double().eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return head


def random_targets(width: int = WIDTH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(TARGETS, len(RADICES) + 1, width, generator=generator).double()
    codes = [torch.randint(radix, (TARGETS,), generator=generator) for radix in RADICES]
    return hidden, torch.stack(codes, dim=1)


def array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().numpy()


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def next_state(
    head: DraftHead, level: int, code: int, state: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Transition_l(e_l, s_l), written out."""
    if head.transition == "none":
        return state
    cell = head.cells[level]
    inward = array(cell.weight_ih) @ array(head.embeddings[level].weight)[code]
    inward = inward + array(cell.bias_ih)
    onward = array(cell.weight_hh) @ state + array(cell.bias_hh)
    if head.transition == "rnn":
        return np.tanh(inward + onward)
    reset_in, update_in, new_in = np.split(inward, 3)
    reset_on, update_on, new_on = np.split(onward, 3)
    update = sigmoid(update_in + update_on)
    new = np.tanh(new_in + sigmoid(reset_in + reset_on) * new_on)
    return (1 - update) * new + update * state


@pytest.mark.parametrize("placeholders", [True, False])
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_teacher_forcing_is_the_formula(transition: str, placeholders: bool) -> None:
    head = random_head(transition, placeholders=placeholders)
    hidden, codes = random_targets()
    outputs = head(hidden, codes)
    assert [tuple(output.shape) for output in outputs] == [(TARGETS, radix) for radix in RADICES]
    for target in range(TARGETS):
        state = array(hidden[target, 0])  # s_1 = h_0
        for level, classifier in enumerate(head.classifiers):
            seen = placeholders * array(hidden[target, level + 1]) + state
            expected = array(classifier.weight) @ seen + array(classifier.bias)
            np.testing.assert_allclose(array(outputs[level][target]), expected, rtol=1e-9)
            shifted = np.exp(expected - expected.max())
            probabilities = array(
                head.log_probs(level, hidden[target, level + 1], torch.tensor(state)).exp()
            )
            np.testing.assert_allclose(probabilities, shifted / shifted.sum(), rtol=1e-4)
            if level + 1 < len(RADICES):
                state = next_state(head, level, int(codes[target, level]), state)


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_teacher_forcing_equals_steps_over_beams(transition: str) -> None:
    head = random_head(transition)
    hidden, codes = random_targets()
    forced = head(hidden, codes)
    # Two leading dimensions, as in the decoders: one row, all targets as its beams.
    state = hidden[None, :, 0]
    for level in range(head.levels):
        logits = head.logits(level, hidden[None, :, level + 1], state)
        torch.testing.assert_close(logits[0], forced[level])
        if level + 1 < head.levels:
            state = head.advance(level, codes[None, :, level], state)
            assert state.shape == (1, TARGETS, WIDTH)


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_without_placeholders_h_0_is_all_it_reads(transition: str) -> None:
    head = random_head(transition, placeholders=False)
    hidden, codes = random_targets()
    hidden[:, 1:] = torch.nan  # may be anything, or missing
    assert all(logits.isfinite().all() for logits in head(hidden, codes))
    whole = random_head(transition)
    assert list(whole.state_dict()) == list(head.state_dict())
    hidden[:, 1:] = 0
    for one, other in zip(head(hidden, codes), whole(hidden, codes), strict=True):
        assert torch.equal(one, other)


def test_without_transition_levels_are_independent() -> None:
    head = random_head("none")
    hidden, codes = random_targets()
    others = (codes + 1) % torch.tensor(RADICES)
    for one, other in zip(head(hidden, codes), head(hidden, others), strict=True):
        assert torch.equal(one, other)
    assert len(head.embeddings) == len(head.cells) == 0, "no weight that nothing trains"


@pytest.mark.parametrize("transition", ["rnn", "gru"])
def test_with_a_transition_later_levels_depend_on_earlier_codes(transition: str) -> None:
    head = random_head(transition)
    hidden, codes = random_targets()
    for changed in range(len(RADICES)):
        others = codes.clone()
        others[:, changed] = (others[:, changed] + 1) % RADICES[changed]
        pairs = zip(head(hidden, codes), head(hidden, others), strict=True)
        for level, (one, other) in enumerate(pairs):
            assert torch.allclose(one, other) == (level <= changed)


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_the_gradient_reaches_every_parameter_and_hidden_state(transition: str) -> None:
    head = random_head(transition, width=3)  # so narrow that no tanh saturates to nothing
    hidden, codes = random_targets(width=3)
    hidden.requires_grad_()
    losses = [
        F.cross_entropy(logits, codes[:, level]) for level, logits in enumerate(head(hidden, codes))
    ]
    torch.stack(losses).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert (hidden.grad.abs().amax(dim=(0, 2)) > 0).all()


def test_one_level_has_no_transition_weights() -> None:
    head = DraftHead((5,), WIDTH)
    assert sorted(dict(head.named_parameters())) == ["classifiers.0.bias", "classifiers.0.weight"]
    assert head(torch.zeros(2, 2, WIDTH), torch.zeros(2, 1, dtype=torch.int64))[0].shape == (2, 5)


def test_dropout_acts_in_training_only() -> None:
    head = random_head("rnn", dropout=0.5)
    hidden, codes = random_targets()
    assert torch.equal(head(hidden, codes)[0], head(hidden, codes)[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head.train()
        assert not torch.equal(head(hidden, codes)[0], head(hidden, codes)[0])


def test_log_probs_are_float32_and_sum_to_one_in_low_precision() -> None:
    head = random_head("rnn").to(torch.bfloat16)
    hidden, _ = random_targets()
    log_probs = head.log_probs(0, hidden[:, 1].bfloat16(), hidden[:, 0].bfloat16())
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(TARGETS), rtol=0, atol=1e-6)


def test_an_unknown_transition_is_named() -> None:
    with pytest.raises(ValueError, match=r"transition is 'lstm', .*'rnn', 'gru', 'none'"):
        DraftHead(RADICES, WIDTH, "lstm")
