"""Transformers for graphs.py: a plain ViT, and a detector with the shapes of RF-DETR-nano.

The shapes come from the published descriptions: DINOv2-small over windows (every third layer over all of them), a C2f-like projector, a
two-stage selection of queries by top-k, decoder layers with self-attention and deformable sampling.
"""
import numpy as np

CLASSES = 91


class Tokens:
    """Operations on `[.., tokens, channels]`, written as PyTorch's exporter does."""

    def __init__(self, net):
        self.net, self.add, self.const, self.ints = net, net.add, net.const, net.ints

    def weights(self, *shape):
        return self.const(self.net.random.standard_normal(shape, dtype=np.float32) / np.float32(shape[0]) ** np.float32(0.5))

    def numbers(self, count, around=0.0):
        return self.const(np.float32(around) + self.net.random.standard_normal(count, dtype=np.float32) * np.float32(0.1))

    def linear(self, x, channels, out):
        return self.add("Add", [self.add("MatMul", [x, self.weights(channels, out)]), self.numbers(out)])

    def norm(self, x, channels):
        return self.add("LayerNormalization", [x, self.numbers(channels, 1.0), self.numbers(channels)], axis=-1, epsilon=1e-6)

    def gelu(self, x):
        one = self.add("Add", [self.add("Erf", [self.add("Div", [x, self.const(np.float32(2**0.5))])]), self.const(np.float32(1))])
        return self.add("Mul", [self.add("Mul", [x, one]), self.const(np.float32(0.5))])

    def attention(self, query, key, value, batch, rows, keys, channels, heads):
        dim = channels // heads

        def split(x, count, order):
            x = self.add("Reshape", [self.linear(x, channels, channels), self.ints(batch, count, heads, dim)])
            return self.add("Transpose", [x], perm=order)

        scores = self.add("MatMul", [split(query, rows, [0, 2, 1, 3]), split(key, keys, [0, 2, 3, 1])])
        scores = self.add("Softmax", [self.add("Mul", [scores, self.const(np.float32(dim**-0.5))])], axis=-1)
        mixed = self.add("Transpose", [self.add("MatMul", [scores, split(value, keys, [0, 2, 1, 3])])], perm=[0, 2, 1, 3])
        return self.linear(self.add("Reshape", [mixed, self.ints(batch, rows, channels)]), channels, channels)

    def layer(self, x, batch, rows, channels, heads, scaled):
        """A layer of an encoder; `scaled`: its shares are multiplied by learnt numbers, as DINOv2 does."""
        def share(y):
            return self.add("Mul", [y, self.numbers(channels, 1.0)]) if scaled else y

        y = self.norm(x, channels)
        x = self.add("Add", [x, share(self.attention(y, y, y, batch, rows, rows, channels, heads))])
        y = self.linear(self.gelu(self.linear(self.norm(x, channels), channels, 4 * channels)), 4 * channels, channels)
        return self.add("Add", [x, share(y)])

    def mlp(self, x, sizes):
        for index, (channels, out) in enumerate(zip(sizes, sizes[1:])):
            x = self.linear(x, channels, out)
            x = x if index == len(sizes) - 2 else self.add("Relu", [x])
        return x

    def patches(self, patch, channels):
        name, planes, side = self.net.input
        kernel = self.net.random.standard_normal((channels, planes, patch, patch), dtype=np.float32) / (planes**0.5 * patch)
        kernel = self.const(kernel.astype(np.float32))
        x = self.add("Conv", [name, kernel, self.numbers(channels)], kernel_shape=[patch, patch], strides=[patch, patch])
        side //= patch
        x = self.add("Transpose", [self.add("Reshape", [x, self.ints(1, channels, side * side)])], perm=[0, 2, 1])
        return self.add("Add", [x, self.const(self.net.random.standard_normal((1, side * side, channels), dtype=np.float32))]), side


def vit(net, width):
    """ViT-S: 12 layers, patches of 14."""
    t, channels = Tokens(net), int(width)
    x, side = t.patches(14, channels)
    for _ in range(12):
        x = t.layer(x, 1, side * side, channels, channels // 64, False)
    return t.linear(t.norm(x, channels), channels, 4 + CLASSES), [1, side * side, 4 + CLASSES]


def rfdetr(net, width, windows=2, queries=300, hidden=256, points=2):
    t, channels = Tokens(net), int(width)
    add, ints, const = t.add, t.ints, t.const
    x, side = t.patches(16, channels)
    count, part, batch = side * side, side // windows, windows * windows
    apart = add("Reshape", [x, ints(1, windows, part, windows, part, channels)])
    apart = add("Reshape", [add("Transpose", [apart], perm=[0, 1, 3, 2, 4, 5]), ints(batch, part * part, channels)])
    first = const(net.random.standard_normal((batch, 1, channels), dtype=np.float32))
    x, rows, features = add("Concat", [first, apart], axis=1), part * part + 1, []
    for index in range(12):
        everywhere = index % 3 == 2
        if everywhere:
            x = add("Reshape", [x, ints(1, batch * rows, channels)])
            x = t.layer(x, 1, batch * rows, channels, channels // 64, True)
            x = add("Reshape", [x, ints(batch, rows, channels)])
            y = add("Slice", [t.norm(x, channels), ints(1), ints(rows), ints(1)])
            y = add("Reshape", [y, ints(1, windows, windows, part, part, channels)])
            y = add("Reshape", [add("Transpose", [y], perm=[0, 5, 1, 3, 2, 4]), ints(1, channels, side, side)])
            features.append((y, channels, side))
        else:
            x = t.layer(x, batch, rows, channels, channels // 64, True)
    memory = net.c2f(net.concat(features), hidden, 3, False)[0]
    memory = add("Transpose", [add("Reshape", [memory, ints(1, hidden, count)])], perm=[0, 2, 1])
    chosen = t.norm(t.linear(memory, hidden, hidden), hidden)
    scores = add("ReduceMax", [t.linear(chosen, hidden, CLASSES)], axes=[2], keepdims=0)
    _, best = add("TopK", [scores, ints(queries)], 2, axis=1)
    wide = add("Expand", [add("Reshape", [best, ints(1, queries, 1)]), ints(1, queries, 4)])
    boxes = add("Sigmoid", [add("GatherElements", [t.mlp(chosen, [hidden, hidden, hidden, 4]), wide], axis=1)])
    x = const(net.random.standard_normal((1, queries, hidden), dtype=np.float32))
    place = t.mlp(boxes, [4, hidden, hidden])
    heads, deform = 8, 16
    dim = hidden // deform
    for _ in range(2):
        q = add("Add", [x, place])
        x = t.norm(add("Add", [x, t.attention(q, q, x, 1, queries, queries, hidden, heads)]), hidden)
        q = add("Add", [x, place])
        value = add("Transpose", [t.linear(memory, hidden, hidden)], perm=[0, 2, 1])
        value = add("Reshape", [value, ints(deform, dim, side, side)])
        offsets = add("Reshape", [t.linear(q, hidden, deform * points * 2), ints(1, queries, deform, points, 2)])
        shares = add("Reshape", [t.linear(q, hidden, deform * points), ints(1, queries, deform, points)])
        shares = add("Softmax", [shares], axis=-1)
        centre, size = add("Split", [add("Reshape", [boxes, ints(1, queries, 1, 1, 4)]), ints(2, 2)], 2, axis=4)
        moved = add("Mul", [add("Mul", [offsets, size]), const(np.float32(0.5 / points))])
        grid = add("Sub", [add("Mul", [add("Add", [centre, moved]), const(np.float32(2))]), const(np.float32(1))])
        grid = add("Reshape", [add("Transpose", [grid], perm=[0, 2, 1, 3, 4]), ints(deform, queries, points, 2)])
        found = add("GridSample", [value, grid], mode="bilinear", padding_mode="zeros", align_corners=0)
        shares = add("Reshape", [add("Transpose", [shares], perm=[0, 2, 1, 3]), ints(deform, 1, queries, points)])
        mixed = add("ReduceSum", [add("Mul", [found, shares]), ints(3)], keepdims=0)
        mixed = add("Transpose", [add("Reshape", [mixed, ints(1, hidden, queries)])], perm=[0, 2, 1])
        x = t.norm(add("Add", [x, t.linear(mixed, hidden, hidden)]), hidden)
        x = t.norm(add("Add", [x, t.mlp(x, [hidden, 2048, hidden])]), hidden)
    boxes = add("Sigmoid", [add("Add", [t.mlp(x, [hidden, hidden, hidden, 4]), boxes])])
    labels = t.linear(x, hidden, CLASSES)
    return [("dets", boxes, [1, queries, 4]), ("labels", labels, [1, queries, CLASSES])], None
