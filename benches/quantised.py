#!/usr/bin/env python3
"""Makes 8-bit graphs of a float one with onnxruntime's own tools: what versus.sh compares, and tests of other sizes.

    quantised.py MODEL.onnx qdq|qoperator|dynamic OUT.onnx

Weights of int8 per output channel, activations of uint8 (dynamic: weights of int8 for the whole tensor, scales chosen for every picture).
Calibrated on noise: right for times and for comparing numbers, not for detections (`weir models quantise` calibrates on pictures).
"""
import sys

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

PICTURES = 4


class Noise(CalibrationDataReader):
    def __init__(self, path):
        entry = onnx.load(path, load_external_data=False).graph.input[0]
        shape = [dim.dim_value or 1 for dim in entry.type.tensor_type.shape.dim]
        numbers = np.random.default_rng(1)
        self.pictures = iter([{entry.name: numbers.random(shape, dtype=np.float32)} for _ in range(PICTURES)])

    def get_next(self):
        return next(self.pictures, None)


def around_infinity(path):
    """Pads of infinite numbers (before a maximum): 8 bits have none, and the quantiser would write an infinite scale."""
    graph = onnx.load(path).graph
    infinite = {t.name for t in graph.initializer if not np.isfinite(onnx.numpy_helper.to_array(t).astype(np.float64)).all()}
    return [node.name for node in graph.node if node.op_type == "Pad" and infinite & set(node.input)]


def main():
    path, kind, out = sys.argv[1:]
    if kind == "dynamic":
        return quantize_dynamic(path, out, weight_type=QuantType.QInt8)
    form = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}[kind]
    quantize_static(
        path,
        out,
        Noise(path),
        nodes_to_exclude=around_infinity(path),
        quant_format=form,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )


if __name__ == "__main__":
    main()
