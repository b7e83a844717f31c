// A batch of examples that lie on the device, as bytes over 255 or as floats: shifted, mirrored, normalized, with a hole.

// Rows of the table are: example, shift down and right, whether mirrored, first and last (excluded) row and column of the
// hole. `scale` holds means, then deviations. Training runs in floats, whatever `real` is.
extern "C" __global__ void gather_batch(const unsigned char *bytes, const float *floats, const long long *table,
                                        const float *scale, int h, int w, int c, int len, float *out) {
    const int at = place();
    if (at >= len) return;
    const int channel = at % c, column = at / c % w, line = at / (c * w) % h;
    const long long *row = table + at / (c * w * h) * 8;
    if (line >= row[4] && line < row[5] && column >= row[6] && column < row[7]) {
        out[at] = 0;
        return;
    }
    const long long y = line + row[1], x = (row[3] ? w - 1 - column : column) + row[2];
    float value = 0;
    if (y >= 0 && y < h && x >= 0 && x < w) {
        const long long from = ((row[0] * h + y) * w + x) * c + channel;
        value = bytes ? (float)bytes[from] / 255.0f : floats[from];
    }
    out[at] = scale ? (value - scale[channel]) / scale[c + channel] : value;
}
