// Channels dealt out in turn: channel i·parts + j of all is channel i of part j, where part 0 is a tensor of its own and
// the others lie side by side in `rest`.

extern "C" __global__ void shuffle_join(const map *part, const map *rest, int c, int parts, int len, map *y) {
    const int at = place();
    if (at >= len) return;
    const int channel = at % (c * parts), row = at / (c * parts), i = channel / parts, j = channel % parts;
    y[at] = j == 0 ? part[row * c + i] : rest[row * c * (parts - 1) + (j - 1) * c + i];
}

// Undoes it, an element of `y` to a thread.
extern "C" __global__ void shuffle_separate(const map *y, int c, int parts, int len, map *part, map *rest) {
    const int at = place();
    if (at >= len) return;
    const int channel = at % (c * parts), row = at / (c * parts), i = channel / parts, j = channel % parts;
    if (j == 0) part[row * c + i] = y[at];
    else rest[row * c * (parts - 1) + (j - 1) * c + i] = y[at];
}
