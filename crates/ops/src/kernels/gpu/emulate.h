// Runs kernels on the host: blocks one after the other, a block's threads as fibers that change places where they wait
// for each other. For tests.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

struct Place {
    unsigned x, y, z;
};
static Place threadIdx, blockIdx, blockDim, gridDim;

static double __longlong_as_double(long long bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

namespace emulate {

const size_t STACK = 256 << 10;

struct Fiber {
    ucontext_t context;
    Place place;
    bool done;
};

static std::vector<Fiber> fibers;
static std::vector<char> stacks;
static ucontext_t scheduler;
static Fiber *current;
static void (*body)(void *);
static void *arguments;
static unsigned next, ended; // threads of the block
static bool backwards;

// Runs one thread after the other until none is left that has not begun; a kernel in which nobody waits needs one fiber.
static void work() {
    const unsigned n = blockDim.x * blockDim.y;
    while (next < n) {
        const unsigned i = backwards ? n - 1 - next : next;
        next++;
        threadIdx = current->place = Place{i % blockDim.x, i / blockDim.x, 0};
        body(arguments);
        ended++;
    }
    current->done = true;
    swapcontext(&current->context, &scheduler);
}

static void resume(Fiber &fiber) {
    current = &fiber;
    threadIdx = fiber.place;
    swapcontext(&scheduler, &fiber.context);
}

static void begin(Fiber &fiber, char *stack) {
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, work, 0);
    resume(fiber);
}

// Every thread of a block runs up to the next wait, then all once more, until all are done. Backwards it is the last one
// first; a kernel that forgets to wait gives other numbers then.
static bool block() {
    const unsigned n = blockDim.x * blockDim.y;
    if (fibers.size() < n) {
        fibers.resize(n);
        stacks.resize(n * STACK);
    }
    next = ended = 0;
    unsigned used = 0;
    for (; next < n; used++) begin(fibers[used], &stacks[used * STACK]);
    while (ended < n) {
        if (ended > 0) return false; // on a device those that wait would wait for ever
        for (unsigned i = 0; i < used; i++)
            if (!fibers[i].done) resume(fibers[i]);
    }
    return true;
}

template <class... A, size_t... I> static void call(void (*kernel)(A...), void **args, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<A> *>(args[I])...);
}

template <class... A> struct Call {
    void (*kernel)(A...);
    void **args;
    static void run(void *self) {
        Call *call = static_cast<Call *>(self);
        emulate::call(call->kernel, call->args, std::index_sequence_for<A...>());
    }
};

// As cuLaunchKernel; false if some threads of a block wait for others that have ended.
template <class... A>
static bool launch(void (*kernel)(A...), const unsigned *blocks, const unsigned *threads, void **args, bool order) {
    backwards = order;
    Call<A...> call{kernel, args};
    body = Call<A...>::run;
    arguments = &call;
    gridDim = Place{blocks[0], blocks[1], blocks[2]};
    blockDim = Place{threads[0], threads[1], 1};
    for (unsigned z = 0; z < blocks[2]; z++)
        for (unsigned y = 0; y < blocks[1]; y++)
            for (unsigned x = 0; x < blocks[0]; x++) {
                blockIdx = Place{x, y, z};
                if (!block()) return false;
            }
    return true;
}

} // namespace emulate

static void __syncthreads() { swapcontext(&emulate::current->context, &emulate::scheduler); }
