// Kernels that only tests launch. First those with the mistakes that the emulation is there to find.

extern "C" __global__ void forgets_to_wait(real *y) {
    __shared__ real all[64];
    all[threadIdx.x] = threadIdx.x;
    y[threadIdx.x] = all[63 - threadIdx.x];
}

extern "C" __global__ void waits_for_the_dead(real *y) {
    y[threadIdx.x] = 0;
    if (threadIdx.x > 7) __syncthreads();
}

extern "C" __global__ void writes_outside(real *y) { y[threadIdx.x + 1] = y[threadIdx.x] = 0; }

extern "C" __global__ void leaves_one_out(real *y) {
    if (threadIdx.x) y[threadIdx.x] = 0;
}

#ifdef MATRIX_UNITS
// Half of a warp waits, the other multiplies.
extern "C" __global__ void multiplies_apart(real *y) {
    const unsigned left[1][4] = {}, right[1][2] = {};
    real sum[1][1][4] = {};
    if (threadIdx.x % 32 < 16)
        multiply_fragments(sum, left, right);
    else
        __syncthreads();
    y[threadIdx.x] = sum[0][0][0];
}

// y = left · rightᵀ of one fragment, as the threads of a warp hold it: four words, two words, four numbers each.
extern "C" __global__ void multiply_registers(const unsigned *left, const unsigned *right, real *y) {
    const int lane = threadIdx.x;
    unsigned a[1][4], b[1][2];
    for (int i = 0; i < 4; i++) a[0][i] = left[lane * 4 + i];
    for (int i = 0; i < 2; i++) b[0][i] = right[lane * 2 + i];
    real sum[1][1][4] = {};
    multiply_fragments(sum, a, b);
    for (int e = 0; e < 4; e++) y[lane * 4 + e] = sum[0][0][e];
}

// y = a · bᵀ of (32, 16) and (16, 16), by one warp.
extern "C" __global__ void multiply_matrices(const real *a, const real *b, real *y) {
    __shared__ __align__(16) factor left[32][Stride<16>::VALUE], right[16][Stride<16>::VALUE];
    for (int k = 0; k < 16; k++) {
        left[threadIdx.x][k] = to_factor(a[threadIdx.x * 16 + k]);
        if (threadIdx.x < 16) right[threadIdx.x][k] = to_factor(b[threadIdx.x * 16 + k]);
    }
    __syncthreads();
    real sum[2][2][4] = {};
    multiply_stage<16>(sum, &left[0][0], &right[0][0]);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            for (int e = 0; e < 4; e++) y[(16 * i + sum_row(e)) * 16 + 8 * j + sum_column(e)] = sum[i][j][e];
}
#endif
