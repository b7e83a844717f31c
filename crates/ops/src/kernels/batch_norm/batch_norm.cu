// Sums over all rows of each channel, and what follows from them. A block sums some channels over a slice of rows, in
// double precision; a second kernel adds up the slices, one block to a channel. Of moments a slice says its mean and the
// sum of squares about it: those of a convolution's output come from the blocks that make it (`tile_moments`).

// Two sums over what `values` reads.
template <class Values>
__device__ __forceinline__ void channel_sums(const Values &values, int rows, int c, int slice, double *parts) {
    __shared__ double sums[2][256];
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    const int first = blockIdx.y * slice, last = least(first + slice, rows);
    double a = 0, b = 0;
    if (channel < c) {
        values.start(channel);
        for (int row = first + threadIdx.y; row < last; row += blockDim.y * AHEAD) {
            typename Values::Read read[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                const int at = row + blockDim.y * i;
                if (at < last) read[i] = values.read(at * c + channel);
            }
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                if (row + (int)blockDim.y * i < last) values.add(read[i], a, b);
        }
    }
    add_columns(sums, a, b);
    if (threadIdx.y == 0 && channel < c) {
        a = sums[0][threadIdx.x];
        b = sums[1][threadIdx.x];
        values.finish(last - first, a, b);
        parts[(blockIdx.y * 2) * c + channel] = a;
        parts[(blockIdx.y * 2 + 1) * c + channel] = b;
    }
}

// Threads that add up the slices of one channel.
#define ADDERS 256

// Adds up what all of a block hold; every thread gets the sums.
__device__ __forceinline__ void add_threads(double &a, double &b) {
    __shared__ double sums[2][ADDERS];
    const int t = threadIdx.x;
    __syncthreads(); // the sums before these have been read
    sums[0][t] = a;
    sums[1][t] = b;
    for (int half = ADDERS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) {
            sums[0][t] += sums[0][t + half];
            sums[1][t] += sums[1][t + half];
        }
    }
    __syncthreads();
    a = sums[0][0];
    b = sums[1][0];
}

// Adds up the slices of channel blockIdx.x; every thread gets the sums.
__device__ __forceinline__ void add_slices(const double *parts, int slices, int c, double &a, double &b) {
    a = b = 0;
    for (int slice = threadIdx.x; slice < slices; slice += ADDERS) {
        a += parts[slice * 2 * c + blockIdx.x];
        b += parts[(slice * 2 + 1) * c + blockIdx.x];
    }
    add_threads(a, b);
}

// Makes of Σ (x − pivot) and Σ (x − pivot)² the mean and the sum of squares about it.
__device__ __forceinline__ void about_mean(double pivot, int rows, double &a, double &b) {
    b -= a * a / rows;
    if (b < 0) b = 0; // not of NaN
    a = pivot + a / rows;
}

// Sums about the first row's values lose no digits to a large mean.
struct AboutFirst {
    const map *x;
    mutable double pivot;
    __device__ __forceinline__ void start(int channel) const { pivot = x[channel]; }
    typedef real Read;
    __device__ __forceinline__ Read read(int at) const { return x[at]; }
    __device__ __forceinline__ void add(Read x, double &a, double &b) const {
        const double value = (double)x - pivot;
        a += value;
        b += value * value;
    }
    __device__ __forceinline__ void finish(int rows, double &a, double &b) const { about_mean(pivot, rows, a, b); }
};

struct Correlation {
    const map *x, *gy;
    const real *mean;
    mutable double about;
    __device__ __forceinline__ void start(int channel) const { about = mean[channel]; }
    struct Read {
        real x, slope;
    };
    __device__ __forceinline__ Read read(int at) const { return Read{x[at], gy[at]}; }
    __device__ __forceinline__ void add(Read read, double &a, double &b) const {
        const double slope = read.slope;
        a += ((double)read.x - about) * slope;
        b += slope;
    }
    __device__ __forceinline__ void finish(int, double &, double &) const {}
};

struct Plain {
    const map *x;
    __device__ __forceinline__ void start(int) const {}
    typedef real Read;
    __device__ __forceinline__ Read read(int at) const { return x[at]; }
    __device__ __forceinline__ void add(Read x, double &a, double &) const { a += x; }
    __device__ __forceinline__ void finish(int, double &, double &) const {}
};

extern "C" __global__ void moment_sums(const map *x, int rows, int c, int slice, double *parts) {
    channel_sums(AboutFirst{x, 0}, rows, c, slice, parts);
}

extern "C" __global__ void correlation_sums(
    const map *x, const map *gy, const real *mean, int rows, int c, int slice, double *parts) {
    channel_sums(Correlation{x, gy, mean, 0}, rows, c, slice, parts);
}

extern "C" __global__ void plain_sums(const map *x, int rows, int c, int slice, double *parts) {
    channel_sums(Plain{x}, rows, c, slice, parts);
}

extern "C" __global__ void add_plain_sums(const double *parts, int slices, int c, real *sum) {
    double a, b;
    add_slices(parts, slices, c, a, b);
    if (threadIdx.x == 0) sum[blockIdx.x] = (real)a;
}

// Moments of all rows from those of slices of `slice` rows, of which the last may have fewer (Chan, Golub & LeVeque, 1979);
// and how they, a scale and a shift normalize.
extern "C" __global__ void moments(const double *parts, int rows, int slice, int slices, int c, double eps,
                                   const real *scale, const real *shift, real *mean, real *inv_std, real *unbiased,
                                   real *factor, real *shifted) {
    const int channel = blockIdx.x;
    const double about = parts[channel];
    double sum = 0, apart = 0;
    for (int i = threadIdx.x; i < slices; i += ADDERS) {
        const int n = least(slice, rows - i * slice);
        sum += n * (parts[i * 2 * c + channel] - about);
        apart += parts[(i * 2 + 1) * c + channel];
    }
    add_threads(sum, apart);
    const double all = about + sum / rows;
    double between = 0, none = 0;
    for (int i = threadIdx.x; i < slices; i += ADDERS) {
        const double off = parts[i * 2 * c + channel] - all;
        between += least(slice, rows - i * slice) * off * off;
    }
    add_threads(between, none);
    if (threadIdx.x != 0) return;
    apart += between;
    mean[channel] = (real)all;
    inv_std[channel] = (real)(1 / sqrt(apart / rows + eps));
    unbiased[channel] = (real)(apart / (rows > 1 ? rows - 1 : 1));
    factor[channel] = scale ? scale[channel] * inv_std[channel] : inv_std[channel];
    shifted[channel] = shift ? shift[channel] : (real)0;
}

// `var` in place of `inv_std`; without a mean, 0.
extern "C" __global__ void normalize_running(const map *x, const real *mean, const real *var, const real *scale,
                                             const real *shift, double eps, int len, int c, map *y) {
    const int at = place();
    if (at >= len) return;
    const int channel = at % c;
    const real inv_std = (real)(1 / sqrt((double)var[channel] + eps));
    const real factor = scale ? scale[channel] * inv_std : inv_std;
    y[at] = (map)((mean ? x[at] - mean[channel] : (real)x[at]) * factor + (shift ? shift[channel] : (real)0));
}

// How ∂L/∂y passes through, a·∂L/∂y + (b·(x − mean) + d): a, b and d behind each other in `through`; the gradients of
// scale and shift; and what each channel adds to ⟨∂L/∂y, y⟩.
extern "C" __global__ void norm_gradient_through(const double *parts, int rows, int slices, int c, const real *inv_std,
                                                 const real *scale, const real *shift, real *through, real *of_scale,
                                                 real *of_shift, double *products) {
    double product, sum;
    add_slices(parts, slices, c, product, sum);
    if (threadIdx.x != 0) return;
    const int channel = blockIdx.x;
    const double inverse = inv_std[channel], a = scale ? inverse * (double)scale[channel] : inverse;
    products[channel] = a * product + (shift ? shift[channel] * sum : 0);
    product *= inverse;
    through[channel] = (real)a;
    through[c + channel] = (real)(-a * inverse * product / rows);
    through[2 * c + channel] = (real)(-a * sum / rows);
    of_scale[channel] = (real)product;
    of_shift[channel] = (real)sum;
}

// What each channel adds to ⟨∂L/∂y, (x − mean)·factor + shift⟩.
extern "C" __global__ void norm_products(const double *parts, int slices, int c, const real *factor, const real *shift,
                                         double *products) {
    double product, sum;
    add_slices(parts, slices, c, product, sum);
    if (threadIdx.x == 0) products[blockIdx.x] = factor[blockIdx.x] * product + shift[blockIdx.x] * sum;
}

extern "C" __global__ void norm_gradient(const map *x, const map *gy, const real *mean, const real *through, int len,
                                         int c, map *gx) {
    const int at = place();
    if (at >= len) return;
    const int channel = at % c;
    gx[at] = (map)(through[channel] * gy[at] +
                   (through[c + channel] * (x[at] - mean[channel]) + through[2 * c + channel]));
}
