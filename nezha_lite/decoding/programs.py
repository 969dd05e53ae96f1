"""NEZHA exported to a file: programs that start without compiling and without the model's code.

`export_programs` traces the whole search (backbone, head, verifier and beams) by torch.export and
compiles it by AOTInductor, one program for each shape. The programs hold neither weights nor IDs:
`Programs` gives them the weights of the run's folder, once for all shapes, and every call the
verifier's tensors, so that the catalogue may change. Loading needs torch and safetensors, but
neither transformers nor a compiler.
"""

from __future__ import annotations

import copy
import json
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from nezha_lite.common.checks import check, check_counts
from nezha_lite.common.files import atomic_write, damage_named, read_tensors
from nezha_lite.decoding.base import Decoder, DecodeResult, Verification
from nezha_lite.decoding.captured import cpp_compiler, search_of
from nezha_lite.decoding.nezha import NezhaDecoder
from nezha_lite.model.prompts import Prompts, Vocabulary, build_prompts, check_same_space
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import CatalogueKeys, RequestFilter, Verifier, make_verifier
from nezha_lite.verifiers.request_filter import MIN_WIDTH, NO_KEY

if TYPE_CHECKING:
    from nezha_lite.model import NezhaModel

_ROOT = "programs"  # the archive's folder
_ABOUT, _TENSORS = f"{_ROOT}/extra/programs.json", f"{_ROOT}/extra/programs.safetensors"
_OPTIONS = {"aot_inductor.package": True, "aot_inductor.package_constants_in_so": False}
_REMEDY = "export the run again by `nezha-lite export`"


@dataclass(frozen=True)
class ProgramShape:
    """What one program decodes; smaller batches, histories and filters are padded to it.

    Attributes:
        batch: prompts together.
        items: of the longest history.
        beam: K, exactly.
        filter_width: keys of a request filter's longest row; 0 for calls without one.
    """

    batch: int
    items: int
    beam: int
    filter_width: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "batch", "items", "beam")
        wide = self.filter_width == 0 or self.filter_width >= MIN_WIDTH
        check(wide, "filter_width", self.filter_width, f"0 or at least {MIN_WIDTH}")

    def holds(self, wanted: ProgramShape) -> bool:
        """Whether what is wanted can be padded to this shape."""
        ours, theirs = asdict(self), asdict(wanted)
        return self.beam == wanted.beam and all(ours[name] >= theirs[name] for name in ours)

    def inputs(self, prompts: Prompts, requests: RequestFilter | None) -> tuple[Tensor, ...]:
        """A program's inputs from prompts of its shape; requests are padded to it."""
        batch = (prompts.input_ids, prompts.attention_mask, prompts.position_ids)
        if not self.filter_width:
            return batch
        listed = torch.full((prompts.levels, self.batch, self.filter_width), NO_KEY)
        only = torch.zeros(self.batch, 1, dtype=torch.bool)  # what lists nothing admits everything
        if requests is not None:
            rows = slice(None if len(requests) == 1 else len(requests))  # one row serves all
            listed[:, rows, : requests.listed.shape[-1]] = requests.listed
            only[rows] = requests.only
        return *batch, listed, only


class _Search(nn.Module):
    """A search as a module: its weights are parameters, the head's tables inputs."""

    def __init__(self, model: NezhaModel, search: Any) -> None:
        super().__init__()
        self.model, self.search = model, search

    def forward(self, inputs: tuple[Tensor, ...], tables: tuple[Tensor, ...]) -> Any:
        head: Any = self.model.head
        own, head._tables = head._tables, list(tables)
        keys, scores, _ = self.search(*inputs)
        head._tables = own
        return keys, scores


def export_programs(
    model: NezhaModel, semantic_ids: SemanticIds, path: str | Path, shapes: Sequence[ProgramShape]
) -> None:
    """Write NEZHA's decoding by prefix at these shapes to one file; a program takes 10 to 40 s.

    Args:
        model: on the CPU; it is put into evaluation mode.
        semantic_ids: the catalogue, which may change later; see `Programs`.
        path: of the file, by custom ending in .pt2.
        shapes: one program each.

    Raises:
        ValueError: if there is no C++ compiler, the model is not on the CPU, or a history is longer
            than the model reads.
    """
    from torch._inductor.package.package import package_aoti  # takes two seconds

    check(cpp_compiler() is not None, "The C++ compiler", None, "installed, or named in CXX")
    check(model.device.type == "cpu", "The model's device", model.device, "the CPU")
    longest = max(shape.items for shape in shapes)
    limit = model.config.max_items
    check(longest <= limit, "items", longest, f"at most {limit}, the model's longest history")
    vocabulary, verifier = model.vocabulary, make_verifier("auto", semantic_ids)
    decoder, tables = NezhaDecoder(model.eval(), verifier), tuple(model.head.lookup_tables())
    state, tied = model.state_dict(), model._keys_to_ignore_on_save or ()
    weights = {name: weight for name, weight in state.items() if name not in tied}
    places = {weight.data_ptr(): name for name, weight in weights.items()}
    tensors, files = {"catalogue keys": semantic_ids.keys.unique()}, {}
    for number, shape in enumerate(shapes):
        ids = torch.full((shape.batch, _columns(shape.items, vocabulary.levels)), vocabulary.bos)
        prompts = Prompts(ids, torch.ones_like(ids), torch.zeros_like(ids), vocabulary.levels)
        inputs = shape.inputs(prompts, None)
        requests = None
        if shape.filter_width:
            requests = RequestFilter(inputs[3], inputs[4], vocabulary.radices)
        arguments = ((*inputs, *verifier.tensors), tables)
        search = _Search(model, search_of(decoder, prompts, shape.beam, requests))
        with torch.no_grad():
            exported = torch.export.export(search, arguments, strict=False)
            graph: Any = exported.module()
            files[str(number)] = torch._inductor.aot_compile(graph, arguments, options=_OPTIONS)
        tensors |= {name: t for name, t in exported.constants.items() if isinstance(t, Tensor)}
    about = {
        "torch": torch.__version__,
        "radices": vocabulary.radices,
        "offset": vocabulary.offset,
        "max_items": limit,
        "layout": verifier.layout,
        "weights": _forms(weights),
        "tied": {name: places[state[name].data_ptr()] for name in tied},
        "shapes": [asdict(shape) for shape in shapes],
    }
    with TemporaryDirectory() as folder:
        archive = Path(folder) / f"{_ROOT}.pt2"
        package_aoti(str(archive), files)  # type: ignore[arg-type]  # its annotation lacks lists
        with zipfile.ZipFile(archive, "a") as content:
            content.writestr(_ABOUT, json.dumps(about))
            content.writestr(_TENSORS, save(tensors))
        atomic_write(path, archive.read_bytes())


class Programs(Decoder):
    """Exported programs with a run's weights: the model and the decoder of a `Recommender`.

    The lists are those of `CapturedDecoder(NezhaDecoder(…))`, up to ties. The verifier is built for
    the catalogue of the export and then changed to `semantic_ids`: items may come and go as long as
    the padded tensors have room (a quarter more IDs).

    The file holds machine code, which is run: load only files that you exported yourself.

    Args:
        path: what `export_programs` wrote.
        folder: the run, for its weights; they may have been trained further.
        semantic_ids: the catalogue now.

    Attributes:
        shapes: of the programs.
        verifier: of `semantic_ids`.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the file is damaged, or was exported by another version of torch, or for
            other weights or IDs, or with too little room for these. `decode` raises it also for a
            trace, an allow set that several prompts share, and where no program is large enough for
            the batch, the histories and the sets at this beam.
    """

    device, training, records = torch.device("cpu"), False, False
    verifier: Verifier

    def __init__(self, path: str | Path, folder: str | Path, semantic_ids: SemanticIds) -> None:
        self.path = Path(path)
        self.model: Any = self
        weights, _ = read_tensors(Path(folder) / "model.safetensors")
        with (
            damage_named(path, f"holds no programs for {folder}, {_REMEDY}"),
            zipfile.ZipFile(path) as archive,
        ):
            about = json.loads(archive.read(_ABOUT))
            self._tensors = load(archive.read(_TENSORS))
            self.vocabulary = Vocabulary(tuple(about["radices"]), about["offset"])
            self.max_items, self._layout = about["max_items"], about["layout"]
            self.shapes = [ProgramShape(**shape) for shape in about["shapes"]]
            check(about["torch"] == torch.__version__, "torch", torch.__version__, about["torch"])
            check_same_space(semantic_ids, self.vocabulary)
            if about["weights"] != _forms(weights):
                raise ValueError("the weights have other names, types or shapes")
            weights |= {name: weights[stored] for name, stored in about["tied"].items()}
        self._tensors |= {f"model.{name}": weight for name, weight in weights.items()}
        self._tables = _tables(weights)
        exported = CatalogueKeys(self._tensors.pop("catalogue keys"), semantic_ids.radices)
        verifier = make_verifier("auto", exported)
        verifier.remove(exported.keys[~torch.isin(exported.keys, semantic_ids.keys)])
        verifier.add(semantic_ids.keys)
        self.verifier = self.with_verifier(verifier).verifier
        self._loaders: dict[int, Any] = {}
        self._loading = threading.Lock()

    def eval(self) -> Programs:
        """There is no other mode."""
        return self

    def build_prompts(
        self, histories: Sequence[Sequence[int]], semantic_ids: SemanticIds
    ) -> Prompts:
        """See `NezhaModel.build_prompts`."""
        return build_prompts(histories, semantic_ids, self.vocabulary, self.max_items)

    def decoder(self, verifier: Verifier, verification: Verification) -> Programs:
        """A recommender's decoder; ValueError for a verification that is not exported."""
        check(verification == "prefix", "verification", verification, "prefix with programs")
        return self.with_verifier(verifier)

    def with_verifier(self, verifier: Verifier) -> Programs:
        """The same programs for another state of the catalogue, if they have room for it."""
        if verifier.layout != self._layout:
            raise ValueError(f"The catalogue has outgrown {self.path}: {_REMEDY}.")
        other = copy.copy(self)
        other.verifier = verifier
        return other

    def _decode(
        self, prompts: Prompts, beam: int, trace: bool, requests: RequestFilter | None
    ) -> DecodeResult:
        shared = requests is not None and requests.denied is not None
        check(not shared, "an allow set for several prompts", "shared", "given for each of them")
        (batch, width), levels = prompts.input_ids.shape, prompts.levels
        listed = 0 if requests is None else requests.listed.shape[-1]
        wanted = ProgramShape(batch, max(1, -(-(width - 1) // levels) - 1), beam, listed)
        fitting = [shape for shape in self.shapes if shape.holds(wanted)]
        if not fitting:
            raise ValueError(f"{self.path} has no {wanted}, but {self.shapes}: {_REMEDY}.")
        shape = min(fitting, key=lambda shape: (shape.batch, shape.items, shape.filter_width))
        columns = _columns(shape.items, levels)
        fixed = prompts.padded_to(shape.batch, columns, self.vocabulary.pad)
        inputs = (*shape.inputs(fixed, requests), *self.verifier.tensors, *self._tables)
        keys, scores = self._loader(self.shapes.index(shape)).run(inputs)
        return DecodeResult(keys[:batch], scores[:batch], 1)

    def _loader(self, number: int) -> Any:
        """The program of this number with its weights, which all programs share."""
        with self._loading:
            if number not in self._loaders:
                # Not torch._inductor.aoti_load_package: importing that takes two seconds.
                loader = torch._C._aoti.AOTIModelPackageLoader(
                    str(self.path), str(number), False, 1, -1
                )
                constants = {name: self._tensors[name] for name in loader.get_constant_fqns()}
                loader.load_constants(constants, False, True, True)
                self._loaders[number] = loader
            return self._loaders[number]


def _columns(items: int, levels: int) -> int:
    return 1 + levels * (items + 1)


def _forms(tensors: dict[str, Tensor]) -> dict[str, list[Any]]:
    return {name: [str(tensor.dtype), *tensor.shape] for name, tensor in sorted(tensors.items())}


def _tables(weights: dict[str, Tensor]) -> list[Tensor]:
    """See `DraftHead.refresh_tables`."""
    parts = ("embeddings.{}.weight", "cells.{}.weight_ih", "cells.{}.bias_ih")
    levels = sum(name.startswith("head.cells.") and name.endswith("bias_ih") for name in weights)
    return [
        F.linear(*(weights["head." + part.format(level)] for part in parts))
        for level in range(levels)
    ]
