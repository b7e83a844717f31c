
def sequence(**modules):
    """Modules by name, one after the other."""
    return nn.Sequential(OrderedDict(modules))


class Sum(nn.ModuleList):
    """Branches of one input, added."""

    def forward(self, x):
        return sum(branch(x) for branch in self)


class Concat(nn.ModuleList):
    """Branches of one input, side by side along the channels."""

    def forward(self, x):
        return torch.cat([branch(x) for branch in self], dim=1)


class Pad(nn.Module):
    """Zeros around a map, the last axis first; a negative number cuts."""

    def __init__(self, *sides):
        super().__init__()
        self.sides = sides

    def forward(self, x):
        return F.pad(x, self.sides)


class GlobalPool(nn.Module):
    """The mean over all positions: (N, C, ...) becomes (N, C)."""

    def forward(self, x):
        return x.flatten(2).mean(2) if x.dim() > 2 else x


class Zeros(nn.Module):
    """A node that no operation reaches."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.new_zeros(x.shape[0], *self.shape)


class Cell(nn.Module):
    """Nodes that add what their edges bring; `output` lists those that are concatenated.

    `inputs` holds (how many blocks back, operation); `edges` maps (from, to) to an operation.
    """

    def __init__(self, inputs, edges, output):
        super().__init__()
        self.back = [back for back, _ in inputs]
        self.inputs = nn.ModuleList(op for _, op in inputs)
        self.pairs = list(edges)
        self.edges = nn.ModuleDict({f"{a}_{b}": op for (a, b), op in edges.items()})
        self.output = output

    def forward(self, last, before):
        nodes = {i: op((last, before)[back - 1]) for i, (back, op) in enumerate(zip(self.back, self.inputs))}
        for a, b in self.pairs:
            y = self.edges[f"{a}_{b}"](nodes[a])
            nodes[b] = nodes[b] + y if b in nodes else y
        outputs = [nodes[i] for i in self.output]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
