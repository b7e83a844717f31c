// Dense convolution with matrix units: the products of `conv.cu`, tile for tile, by the same 128 threads. A warp makes a
// part of the tile in fragments. Factors come in fours, STAGE of a row at a time: while one stage is multiplied, the next
// is on its way from memory; two stages take turns in shared memory. These products are small, and what they wait for is
// memory: the more of it is asked for at once, the better, so that stages are as deep as shared memory allows.

#ifdef MATRIX_UNITS
static_assert(CONV_THREADS == 128, "places in a stage are shared out so");

// What all threads read at once of each row; a stage is some of these.
#define STRIP 16

// A tap's channel, which moves on without divisions.
struct Cursor {
    int ky, kx, channel;

    __device__ __forceinline__ void move(int by, int channels, int kw) {
        channel += by;
        while (channel >= channels) {
            channel -= channels;
            if (++kx == kw) {
                kx = 0;
                ky++;
            }
        }
    }
    __device__ __forceinline__ Tap tap(const Geometry &g) const {
        return Tap{ky * g.dh, kx * g.dw, channel, ky < g.kh};
    }
};

// Where four neighboring tap's channels of a window lie in the source: those that the forward and the gradient at the
// weights multiply; OUTSIDE, where they are zero.
#define OUTSIDE (-1)
__device__ __forceinline__ int source_place(const Outputs &p, const Cursor &at, int base, int top, int left) {
    const Geometry &g = p.g;
    const int y = top + at.ky * g.dh, x = left + at.kx * g.dw;
    const bool inside = at.ky < g.kh && y >= 0 && y < g.h && x >= 0 && x < g.w;
    return inside ? (base + y * g.w + x) * g.c + at.channel : OUTSIDE;
}

// The same for the gradient at the inputs: four channels of the output that reads a pixel by a tap.
__device__ __forceinline__ int source_place(const Inputs &p, const Cursor &at, int base, int top, int left) {
    const Geometry &g = p.g;
    int y = top - at.ky * g.dh, x = left - at.kx * g.dw;
    bool inside = at.ky < g.kh && y >= 0 && x >= 0;
    if (g.sh > 1 || g.sw > 1) {
        inside = inside && y % g.sh == 0 && x % g.sw == 0;
        y /= g.sh;
        x /= g.sw;
    }
    inside = inside && y < g.oh && x < g.ow;
    return inside ? (base + y * g.ow + x) * g.oc + at.channel : OUTSIDE;
}

// Weights of one tap's channel lie side by side, by outputs: a thread reads four of those.
__device__ __forceinline__ int weight_place(const Outputs &p, const Cursor &, int k, int n) {
    return k < p.depth() && n < p.g.oc ? k * p.g.oc + n : OUTSIDE;
}

// Here what is summed over lies side by side: a thread reads four of that, of input channel n.
__device__ __forceinline__ int weight_place(const Inputs &p, const Cursor &at, int, int n) {
    const Geometry &g = p.g;
    return at.ky < g.kh && n < g.c ? ((at.ky * g.kw + at.kx) * g.c + n) * g.oc + at.channel : OUTSIDE;
}

// Four neighbors, also of a place outside, which are to be taken for zeros: without a branch, behind which a thread would
// wait for them before it asks for the next.
template <class T> __device__ __forceinline__ Four<T> read_at(const T *from, int place) {
    return *(const Four<T> *)(from + (place == OUTSIDE ? 0 : place));
}

// Four factors of a tile, on their way from memory: all that were asked for are in `of`, and bits of `outside` say which
// of them are zeros.
template <class T, int STRIPS, int EACH> struct Fetched {
    Four<T> of[STRIPS][EACH];
    unsigned outside;

    __device__ __forceinline__ void read(const T *from, const int (&places)[STRIPS][EACH]) {
        outside = 0;
#pragma unroll
        for (int strip = 0; strip < STRIPS; strip++)
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                of[strip][i] = read_at(from, places[strip][i]);
                outside |= (unsigned)(places[strip][i] == OUTSIDE) << (strip * EACH + i);
            }
    }
    __device__ __forceinline__ void values(int strip, int i, bool relu, real (&values)[4]) const {
        const bool zero = outside >> (strip * EACH + i) & 1;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const real value = (real)of[strip][i].of[j];
            values[j] = zero || (relu && value < (real)0) ? (real)0 : value;
        }
    }
};

// Four tap's channels one by one, where they do not come in fours.
template <class Problem>
__device__ __forceinline__ void gather_singly(const Problem &p, Cursor at, int base, int top, int left, Four<map> &four) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
        four.of[j] = (map)p.value(at.tap(p.g), base, top, left);
        at.move(1, p.channels(), p.g.kw);
    }
}

// Weights as `weight_place` has them, one by one.
__device__ __forceinline__ void weights_singly(const Outputs &p, Cursor, int k, int n, Four<real> &four) {
#pragma unroll
    for (int j = 0; j < 4; j++) four.of[j] = p.weight(k, n + j);
}
__device__ __forceinline__ void weights_singly(const Inputs &p, Cursor at, int, int n, Four<real> &four) {
    const Geometry &g = p.g;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const bool inside = at.ky < g.kh && n < g.c;
        four.of[j] = inside ? p.w[((at.ky * g.kw + at.kx) * g.c + n) * g.oc + at.channel] : (real)0;
        at.move(1, g.oc, g.kw);
    }
}

// Four factors side by side.
__device__ __forceinline__ void put_along(factor *row, const real (&values)[4]) {
    Four<factor> four;
#pragma unroll
    for (int j = 0; j < 4; j++) four.of[j] = to_factor(values[j]);
    *(Four<factor> *)row = four;
}

// Four factors in four rows.
template <int STRIDE> __device__ __forceinline__ void put_across(factor *first, const real (&values)[4]) {
#pragma unroll
    for (int j = 0; j < 4; j++) first[j * STRIDE] = to_factor(values[j]);
}

// Makes a tile of BM × BN sums over first … last, of which WARPS of the four warps share the rows and all others the
// columns: `fetch(k)` reads a stage into registers, `put(which)` writes it to shared memory, `store(row, column, sum)`
// takes the results.
template <int BM, int BN, int WARPS, int STAGE, int STRIDE, class Fetch, class Put, class Store>
__device__ __forceinline__ void matrix_tile(const factor (&a)[2][BM][STRIDE], const factor (&b)[2][BN][STRIDE],
                                            int first, int last, const Fetch &fetch, const Put &put,
                                            const Store &store) {
    const int M = BM / WARPS / 16, N = BN * WARPS / 4 / 8; // fragments of a warp
    const int warp = threadIdx.x / 32, first_row = warp % WARPS * 16 * M, first_column = warp / WARPS * 8 * N;
    real sum[M][N][4];
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sum[i][j][e] = 0;
    fetch(first);
    put(0);
    __syncthreads();
    for (int k = first, stage = 0; k < last; k += STAGE, stage ^= 1) {
        const bool more = k + STAGE < last;
        if (more) fetch(k + STAGE);
        multiply_stage<STAGE>(sum, &a[stage][first_row][0], &b[stage][first_column][0]);
        if (more) put(stage ^ 1);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                store(first_row + 16 * i + sum_row(e), first_column + 8 * j + sum_column(e), sum[i][j][e]);
}

template <class Problem, int BM, int BN, int WARPS, int STAGE>
__device__ __forceinline__ void matrix_product(const Problem &p) {
    const int STRIDE = Stride<STAGE>::VALUE, STRIPS = STAGE / STRIP;
    const int ROWS = BM / 32, COLUMNS = (BN + 31) / 32; // fours of a thread, in a strip
    __shared__ __align__(16) factor a[2][BM][STRIDE];
    __shared__ __align__(16) factor b[2][BN][STRIDE];
    const int t = threadIdx.x, first_row = blockIdx.x * BM, first_column = blockIdx.y * BN;
    // A thread reads four neighboring depths of some rows; of columns, too, where depths lie side by side.
    const int row = t / 4, along = t % 4 * 4, depth = t % STRIP, column = t / STRIP * 4;
    const bool fours = in_fours(p.source(), p.channels()) && in_fours(p.w, p.g.oc);
    int base[ROWS], top[ROWS], left[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        p.window(least(first_row + row + 32 * i, p.rows() - 1), base[i], top[i], left[i]);
    Cursor at{0, 0, 0};
    at.move(along, p.channels(), p.g.kw);
    Fetched<map, STRIPS, ROWS> of_a;
    Fetched<real, STRIPS, COLUMNS> of_b;
    const auto column_of = [&](int i) { return first_column + (Problem::DEPTH_FIRST ? row : column) + 32 * i; };
    const auto fetch = [&](int k) {
        if (!fours) {
            of_a.outside = of_b.outside = 0;
#pragma unroll
            for (int strip = 0; strip < STRIPS; strip++, k += STRIP) {
#pragma unroll
                for (int i = 0; i < ROWS; i++) gather_singly(p, at, base[i], top[i], left[i], of_a.of[strip][i]);
#pragma unroll
                for (int i = 0; i < COLUMNS; i++) weights_singly(p, at, k + depth, column_of(i), of_b.of[strip][i]);
                at.move(STRIP, p.channels(), p.g.kw);
            }
            return;
        }
        int places_a[STRIPS][ROWS], places_b[STRIPS][COLUMNS];
#pragma unroll
        for (int strip = 0; strip < STRIPS; strip++, k += STRIP) {
#pragma unroll
            for (int i = 0; i < ROWS; i++) places_a[strip][i] = source_place(p, at, base[i], top[i], left[i]);
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) places_b[strip][i] = weight_place(p, at, k + depth, column_of(i));
            at.move(STRIP, p.channels(), p.g.kw);
        }
        of_a.read(p.source(), places_a);
        of_b.read(p.w, places_b);
    };
    const auto put = [&](int stage) {
#pragma unroll
        for (int strip = 0; strip < STRIPS; strip++) {
            const int first = strip * STRIP;
            real values[4];
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                of_a.values(strip, i, p.rectifies(), values);
                put_along(&a[stage][row + 32 * i][first + along], values);
            }
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) {
                of_b.values(strip, i, false, values);
                if (Problem::DEPTH_FIRST && row + 32 * i < BN) put_along(&b[stage][row + 32 * i][first + along], values);
                if (!Problem::DEPTH_FIRST && column + 32 * i < BN)
                    put_across<STRIDE>(&b[stage][column + 32 * i][first + depth], values);
            }
        }
    };
    matrix_tile<BM, BN, WARPS, STAGE>(a, b, 0, p.depth(), fetch, put, [&](int m, int n, real sum) {
        if (first_row + m < p.rows() && first_column + n < p.columns()) p.store(first_row + m, first_column + n, sum);
    });
}

// A pixel of the output, which moves on without divisions.
struct Pixel {
    int image, y, x;

    __device__ __forceinline__ void move(int by, const Geometry &g) {
        x += by;
        while (x >= g.ow) {
            x -= g.ow;
            if (++y == g.oh) {
                y = 0;
                image++;
            }
        }
    }
};

// What pixels first … last add to the gradient of the weights. Rows are the taps' channels and columns channels, four of
// which lie side by side; what is summed over are pixels.
template <int BM, int BN, int WARPS, int STAGE>
__device__ __forceinline__ void matrix_weight_product(const Outputs &p, const map *gy, int pixels, real *parts) {
    const int STRIDE = Stride<STAGE>::VALUE, STRIPS = STAGE / STRIP;
    const int ROWS = BM / 32, COLUMNS = (BN + 31) / 32;
    __shared__ __align__(16) factor a[2][BM][STRIDE];
    __shared__ __align__(16) factor b[2][BN][STRIDE];
    const Geometry &g = p.g;
    const int t = threadIdx.x, first_row = blockIdx.x * BM, first_column = blockIdx.y * BN;
    const int depth = t % STRIP, four = t / STRIP * 4;
    const int first = blockIdx.z * pixels, last = least(first + pixels, p.rows());
    const bool fours = in_fours(p.x, g.c) && in_fours(gy, g.oc);
    Cursor taps[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        const int k = first_row + four + 32 * i, tap = k / g.c;
        taps[i] = Cursor{tap / g.kw, tap % g.kw, k % g.c};
    }
    const int start = first + depth;
    Pixel pixel{start / (g.oh * g.ow), start / g.ow % g.oh, start % g.ow};
    Fetched<map, STRIPS, ROWS> of_a;
    Fetched<map, STRIPS, COLUMNS> of_b;
    const auto fetch = [&](int m) {
        of_a.outside = of_b.outside = 0;
        int places_a[STRIPS][ROWS], places_b[STRIPS][COLUMNS];
        m += depth;
#pragma unroll
        for (int strip = 0; strip < STRIPS; strip++, m += STRIP) {
            const int base = pixel.image * g.h * g.w, top = pixel.y * g.sh - g.ph, left = pixel.x * g.sw - g.pw;
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                places_a[strip][i] = m < last ? source_place(p, taps[i], base, top, left) : OUTSIDE;
                if (fours) continue;
                of_a.of[strip][i] = Four<map>{};
                if (m < last) gather_singly(p, taps[i], base, top, left, of_a.of[strip][i]);
            }
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) {
                const int n = first_column + four + 32 * i;
                places_b[strip][i] = m < last && n < g.oc ? m * g.oc + n : OUTSIDE;
                if (fours) continue;
#pragma unroll
                for (int j = 0; j < 4; j++)
                    of_b.of[strip][i].of[j] = m < last && n + j < g.oc ? gy[m * g.oc + n + j] : (map)(real)0;
            }
            pixel.move(STRIP, g);
        }
        if (!fours) return;
        of_a.read(p.x, places_a);
        of_b.read(gy, places_b);
    };
    const auto put = [&](int stage) {
#pragma unroll
        for (int strip = 0; strip < STRIPS; strip++) {
            const int at = strip * STRIP + depth;
            real values[4];
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                of_a.values(strip, i, p.rectifies(), values);
                put_across<STRIDE>(&a[stage][four + 32 * i][at], values);
            }
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) {
                of_b.values(strip, i, false, values);
                if (four + 32 * i < BN) put_across<STRIDE>(&b[stage][four + 32 * i][at], values);
            }
        }
    };
    matrix_tile<BM, BN, WARPS, STAGE>(a, b, first, last, fetch, put, [&](int m, int n, real sum) {
        const int k = first_row + m, column = first_column + n;
        if (k < p.depth() && column < g.oc) parts[blockIdx.z * p.depth() * g.oc + k * g.oc + column] = sum;
    });
}

CONV_KERNELS(64, 16, 4, 48)
CONV_KERNELS(32, 32, 2, 64)
CONV_KERNELS(64, 32, 2, 32)
CONV_KERNELS(64, 64, 2, 32)

CONV_WEIGHT_KERNELS(64, 16, 4, 48)
CONV_WEIGHT_KERNELS(64, 32, 2, 48)
#endif
