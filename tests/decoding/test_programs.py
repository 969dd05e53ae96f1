"""Exported programs: the captured decoder's lists, from a process that compiles nothing."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nezha_lite.decoding import CapturedDecoder, NezhaDecoder
from nezha_lite.decoding.captured import cpp_compiler
from nezha_lite.decoding.programs import Programs, ProgramShape, export_programs
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE
from nezha_lite.verifiers import RequestFilter
from tests.helpers.builders import catalogue, tiny_model

IDS = catalogue(40, (8, 8, 8), seed=2)  # sparse: a trie
SHAPES = [ProgramShape(1, 8, 4), ProgramShape(4, 4, 4, 32)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(cpp_compiler() is None, reason="needs a C++ compiler"),
    # The compiler's own code still uses what it deprecates.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its IDs and exported programs."""
    folder = tmp_path_factory.mktemp("run")
    model = tiny_model(IDS, layers=1, max_items=8, item_memory=True, candidate_embeddings=1)
    model.save_pretrained(folder)
    IDS.save(folder / SEMANTIC_IDS_FILE)
    export_programs(model, IDS, folder / "programs.pt2", SHAPES)
    return folder


@pytest.fixture(scope="module")
def programs(run: Path) -> Programs:
    return Programs(run / "programs.pt2", run, IDS)


@pytest.fixture(scope="module")
def model(run: Path) -> NezhaModel:
    return NezhaModel.from_pretrained(run).eval()


def captured(model: NezhaModel, decoder: Programs) -> CapturedDecoder:
    return CapturedDecoder(NezhaDecoder(model, decoder.verifier), compile=False)


def test_the_lists_are_the_captured_decoders(programs: Programs, model: NezhaModel) -> None:
    decoder = programs
    for histories in ([[3, 1, 4, 1, 5, 2, 6, 8]], [[]], [[5], [0, 1, 2, 3], []]):
        for deny in (None, [[3]], [[0, 2]] * len(histories)):
            requests = deny and RequestFilter.build(IDS, decoder.verifier, deny=deny)
            if requests is not None and len(histories[0]) > 4:
                continue  # no such program
            prompts = programs.build_prompts(histories, IDS)
            expected = captured(model, decoder).decode(prompts, 4, requests=requests)
            found = decoder.decode(prompts, 4, requests=requests)
            assert torch.equal(found.keys, expected.keys)
            torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
            assert found.backbone_calls == 1


def test_the_catalogue_changes_within_its_room(
    programs: Programs, model: NezhaModel, run: Path
) -> None:
    decoder = programs
    prompts = programs.build_prompts([[1, 2]], IDS)
    changed = copy.deepcopy(decoder.verifier)
    changed.remove(decoder.decode(prompts, 4).keys[0, :2])
    other = decoder.with_verifier(changed)
    expected = captured(model, other).decode(prompts, 4)
    assert torch.equal(other.decode(prompts, 4).keys, expected.keys)

    more = catalogue(44, (8, 8, 8), seed=2)  # the first forty are the same
    grown = Programs(run / "programs.pt2", run, more)
    assert grown.verifier.n_ids == more.n_distinct
    decoder = grown
    prompts = grown.build_prompts([[43, 2]], more)
    expected = captured(model, decoder).decode(prompts, 4)
    assert torch.equal(decoder.decode(prompts, 4).keys, expected.keys)

    everything = torch.cartesian_prod(*(torch.arange(radix) for radix in IDS.radices))
    with pytest.raises(ValueError, match=r"outgrown .*programs\.pt2: export the run again"):
        Programs(run / "programs.pt2", run, SemanticIds.from_codes(everything, IDS.radices))


def test_a_recommender_starts_without_the_models_code(run: Path) -> None:
    code = f"""
import json, sys
from nezha_lite.decoding.recommender import Recommender
trained = Recommender.load({str(run)!r}, programs={str(run / "programs.pt2")!r})
lists = trained.recommend([[3, 1], [4]], k=3, beam=4, exclude_seen=True)
trained.remove_items([lists[0][0].item])
lists += trained.recommend([[3, 1]], k=3, beam=4)
heavy = [name for name in sys.modules if name in ("transformers", "torch._inductor.compile_fx")]
print(json.dumps([[[each.item for each in row] for row in lists], heavy]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    lists, heavy = json.loads(done.stdout)
    assert heavy == []
    trained = Recommender.load(run)
    expected = trained.recommend([[3, 1], [4]], k=3, beam=4, exclude_seen=True)
    trained.remove_items([expected[0][0].item])
    expected += trained.recommend([[3, 1]], k=3, beam=4)
    assert lists == [[each.item for each in row] for row in expected]


def test_bad_input_is_named(programs: Programs, model: NezhaModel, run: Path) -> None:
    decoder = programs
    prompts = programs.build_prompts([[1, 2]], IDS)
    with pytest.raises(ValueError, match=r"programs.pt2 has no ProgramShape\(batch=1, items=2, be"):
        decoder.decode(prompts, 5)
    with pytest.raises(ValueError, match="verification is 'off', but must be prefix"):
        programs.decoder(programs.verifier, "off")
    with pytest.raises(
        ValueError, match="trace is True, but must be False, as Programs records none"
    ):
        decoder.decode(prompts, 4, trace=True)
    with pytest.raises(ValueError, match="items is 9, but must be at most 8"):
        export_programs(model, IDS, run / "other.pt2", [ProgramShape(1, 9, 4)])
    with pytest.raises(ValueError, match="filter_width is 5, but must be 0 or at least 32"):
        ProgramShape(1, 1, 1, 5)
    with pytest.raises(ValueError, match=r"holds no programs for .*radices \(3, 4\)"):
        Programs(run / "programs.pt2", run, catalogue(5, (3, 4)))
    with pytest.raises(ValueError, match=r"model.safetensors holds no programs"):
        Programs(run / "model.safetensors", run, IDS)
    with pytest.raises(FileNotFoundError):
        Programs(run / "nothing.pt2", run, IDS)
    other = tiny_model(IDS, layers=2, max_items=8, item_memory=True, candidate_embeddings=1)
    other.save_pretrained(run / "other")
    with pytest.raises(ValueError, match="the weights have other names, types or shapes"):
        Programs(run / "programs.pt2", run / "other", IDS)
