"""SOFIE, ROOT's code generator (``tmva/sofie``): a model of single events with the operators that its ONNX parser has."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepgan.gan.export.hosts import Array, HostModel, register_host
from hepgan.gan.model import GAN

OPERATORS = frozenset(
    [
        "Abs",
        "Add",
        "Atan",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Clip",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Conv",
        "ConvTranspose",
        "Cos",
        "CumSum",
        "Div",
        "Einsum",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "EyeLike",
        "Flatten",
        "Floor",
        "GRU",
        "Gather",
        "GatherND",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "If",
        "InstanceNormalization",
        "IsInf",
        "IsNaN",
        "LSTM",
        "LayerNormalization",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "LogSoftmax",
        "MatMul",
        "Max",
        "MaxPool",
        "Mean",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "NonZero",
        "Not",
        "And",
        "Or",
        "Xor",
        "Pad",
        "Pow",
        "RNN",
        "Range",
        "Reciprocal",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Relu",
        "Reshape",
        "ScatterElements",
        "ScatterND",
        "Selu",
        "Shape",
        "Sigmoid",
        "Sin",
        "Slice",
        "Softmax",
        "Softplus",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tanh",
        "Tile",
        "TopK",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
    ]
)
"""Operators that ``RModelParser_ONNX`` registers in ROOT's development version of July 2026; releases have fewer."""

MACRO = """\
// Writes the C++ code of the GAN in {model}, and generates one shower with it. Written by hepgan {version}.
//   root -l -b -q {stem}.C
#include <random>
#include <vector>

void {stem}()
{{
   using namespace TMVA::Experimental::SOFIE;
   RModelParser_ONNX parser;
   RModel model = parser.Parse("{model}");
   model.Generate();
   model.OutputGenerated("{stem}.hxx"); // and the weights, {stem}.dat

   gInterpreter->Declare("#include \\"{stem}.hxx\\"");
   gInterpreter->Declare(R"(
   void generate()
   {{
      TMVA_SOFIE_{stem}::Session session("{stem}.dat");
      std::mt19937_64 engine(1);
      std::normal_distribution<float> normal;
      std::vector<float> noise({noise});
      for (auto &number : noise) number = normal(engine);
{conditions}      std::vector<float> event = session.infer(noise.data(){arguments});
      // {fields}
      std::cout << event.size() << " values\\n";
   }})");
   gInterpreter->ProcessLine("generate()");
}}
"""


@register_host("sofie")
class Sofie(HostModel):
    """Inputs ``noise[1, Z]``, standard normal, and each condition ``[1]``; one output ``event[1, F]``: the fields one after the other."""

    title = "SOFIE"
    operators = OPERATORS
    outputs = ("event",)

    def __init__(self, gan: GAN, *, fixed: Mapping[str, float], path: Path) -> None:
        super().__init__(gan, fixed=fixed, path=path)
        self.inputs = ("noise", *(f"condition_{i}" for i in range(len(self.conditions))))

    def forward(self, noise: Tensor, *conditions: Tensor) -> Tensor:
        """Returns the event."""
        fields = self.decoded(noise.reshape(-1, *self.latent), *conditions)
        return torch.cat([field.reshape(field.shape[0], -1) for field in fields], 1)

    def feed(self, noise: Array, conditions: Mapping[str, Array]) -> list[Array]:
        """Returns the noise and the conditions."""
        return [noise, *(conditions[name].astype(np.float32) for name in self.conditions)]

    def read(self, outputs: Sequence[Array], conditions: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the fields."""
        fields, start = {}, 0
        for name, field in self.schema.fields.items():
            fields[name] = outputs[0][:, start : start + field.size].reshape(-1, *field.shape)
            start += field.size
        return fields

    def about(self) -> dict[str, Any]:
        """Returns names, shapes and units."""
        conditions = {
            f"condition_{i}": {
                "shape": [],
                "name": name,
                "unit": self.schema.conditions[name].unit,
                "range": list(self.scales[name].range),
            }
            for i, name in enumerate(self.conditions)
        }
        fields = {
            name: {"shape": list(field.shape), "unit": field.unit}
            for name, field in self.schema.fields.items()
        }
        noise = {"shape": [self.noise_values], "distribution": "standard normal"}
        size = sum(field.size for field in self.schema.fields.values())
        return {
            "inputs": {"noise": noise, **conditions},
            "outputs": {"event": {"shape": [size], "fields": fields}},
        }

    def text(self) -> tuple[str, str]:
        """Returns a macro for ROOT."""
        lines = [
            f"      float condition_{i}[]{{{self.examples(name, 1)[0]:g}f}}; // {name}, {self.scales[name]}"
            f" {self.schema.conditions[name].unit}".rstrip()
            + "\n"
            for i, name in enumerate(self.conditions)
        ]
        fields = ", ".join(
            f"{name}[{field.size}] {field.unit}".strip()
            for name, field in self.schema.fields.items()
        )
        return ".C", MACRO.format(
            model=self.path.name, stem=self.path.stem, version=version("hepgan"), noise=self.noise_values,
            conditions="".join(lines), arguments="".join(f", condition_{i}" for i in range(len(lines))),
            fields=fields,
        )  # fmt: skip
