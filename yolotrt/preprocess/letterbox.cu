// Letterbox, fused: pictures of any size, BGR, RGB or NV12, to the model's planes in RGB 0..1, N of them in one launch.
//
// The arithmetic is that of OpenCV's 8-bit bilinear resize, which the CPU path uses: half-pixel centres, positions in
// double, weights of 11 bits, and the four-pixel mean where both sides are halved.
//
// One block makes a tile of TILE_W x TILE_H output pixels of one picture; a thread, two neighbours in each of two rows.
#include "common.cuh"

#define TILE_W 64
#define TILE_H 16
#define THREADS_X 32
#define THREADS_Y 8

enum { ABSENT = 0, BGR = 1, RGB = 2, NV12 = 3 };
enum { ALL_ROWS = 0, PAIRS_OF_ROWS = 1, SINGLE_ROWS = 2 };

struct Picture {
    u64 pixels;                  // address of the first row: BGR, RGB, or the luma of NV12
    u64 chroma;                  // of the first row of U, V pairs; NV12 alone
    double scale_x, scale_y;     // source pixels per resized pixel
    int width, height;           // of the source
    int pitch;                   // bytes from row to row, of chroma too
    int format;                  // ABSENT leaves this slot of the batch as it is
    int resized_width, resized_height;
    int left, top;               // of the resized picture in the input
    int rows;                    // which rows of the source are there, see `source_row`
    int halved;                  // both sides are exactly half of the source's
    int luma_offset, luma, red_v, green_u, green_v, blue_u;  // of NV12, see `fetch`
    float pad;                   // 0..1
    int unused;
};

struct Letterbox {
    u64 pictures;                // Picture[batch]
    u64 output;                  // [batch, 3, height, width]
    int width, height;
};

struct Tap {
    int near, far;               // columns or rows of the source
    int near_weight, far_weight; // of 2048
};

struct Rgb {
    int r, g, b;
};

struct Pixel {
    float r, g, b;
};

// Columns stop at the edge with the whole weight on it; rows are clamped one by one. OpenCV does it so.
__device__ inline Tap tap(int position, double scale, int size, bool is_row) {
    float exact = (float)((position + 0.5) * scale - 0.5);
    int index = (int)floorf(exact);
    float fraction = exact - (float)index;
    if (!is_row && (index < 0 || index >= size - 1)) {
        index = index < 0 ? 0 : size - 1;
        fraction = 0.0f;
    }
    Tap found;
    found.near = min(max(index, 0), size - 1);
    found.far = min(max(index + 1, 0), size - 1);
    found.near_weight = (int)rintf((1.0f - fraction) * 2048.0f);
    found.far_weight = (int)rintf(fraction * 2048.0f);
    return found;
}

// The host may leave out the rows that a strong reduction never reads: then row `y` of the output finds its two rows
// (or the one, where the other has no weight) packed in the order of the output.
__device__ inline int source_row(const Picture &p, int row, int y, int which) {
    if (p.rows == PAIRS_OF_ROWS) return 2 * y + which;
    return p.rows == SINGLE_ROWS ? y : row;
}

__device__ inline int channel(int value) { return min(max(value, 0), 255); }

__device__ inline Rgb fetch(const Picture &p, int x, int y) {
    Rgb found;
    const u8 *row = (const u8 *)p.pixels + (u64)y * (u64)p.pitch;
    if (p.format != NV12) {
        const u8 *pixel = row + 3 * x;
        found.r = p.format == BGR ? pixel[2] : pixel[0];
        found.g = pixel[1];
        found.b = p.format == BGR ? pixel[0] : pixel[2];
        return found;
    }
    // As swscale turns a decoded video into BGR: each chroma pair serves its four pixels, eighths times 13-bit numbers,
    // and each product is cut off by itself.
    const u8 *pair = (const u8 *)p.chroma + (u64)(y / 2) * (u64)p.pitch + (x & ~1);
    int luma = ((8 * row[x] - p.luma_offset) * p.luma) >> 16;
    int u = 8 * pair[0] - 1024, v = 8 * pair[1] - 1024;
    found.r = channel(luma + ((v * p.red_v) >> 16));
    found.g = channel(luma + ((u * p.green_u) >> 16) + ((v * p.green_v) >> 16));
    found.b = channel(luma + ((u * p.blue_u) >> 16));
    return found;
}

__device__ inline float blend(int a, int b, int c, int d, const Tap &x, const Tap &y, int halved) {
    int value;
    if (halved) {
        value = (a + b + c + d + 2) >> 2;
    } else {
        int top = a * x.near_weight + b * x.far_weight;
        int bottom = c * x.near_weight + d * x.far_weight;
        value = (((y.near_weight * (top >> 4)) >> 16) + ((y.far_weight * (bottom >> 4)) >> 16) + 2) >> 2;
        value = min(max(value, 0), 255);
    }
    return (float)value / 255.0f;
}

// One pixel of the output, at `x`, `y` of the resized picture; padding where that is outside of it.
__device__ inline Pixel pixel(const Picture &p, const Tap &h, const Tap &v, int x, int y) {
    Pixel found = {p.pad, p.pad, p.pad};
    if (x < 0 || x >= p.resized_width || y < 0 || y >= p.resized_height) return found;
    int near = source_row(p, v.near, y, 0), far = source_row(p, v.far, y, 1);
    Rgb a = fetch(p, h.near, near), b = fetch(p, h.far, near);
    Rgb c = fetch(p, h.near, far), d = fetch(p, h.far, far);
    found.r = blend(a.r, b.r, c.r, d.r, h, v, p.halved);
    found.g = blend(a.g, b.g, c.g, d.g, h, v, p.halved);
    found.b = blend(a.b, b.b, c.b, d.b, h, v, p.halved);
    return found;
}

template <typename Element>
__device__ inline void letterbox(const Letterbox &a) {
    __shared__ Tap across[TILE_W];
    __shared__ Tap down[TILE_H];
    const Picture p = ((const Picture *)a.pictures)[blockIdx.z];
    if (p.format == ABSENT) return;  // the whole block does

    int thread = threadIdx.y * THREADS_X + threadIdx.x;
    int tile_x = blockIdx.x * TILE_W, tile_y = blockIdx.y * TILE_H;
    if (thread < TILE_W) {
        across[thread] = tap(tile_x + thread - p.left, p.scale_x, p.width, false);
    } else if (thread < TILE_W + TILE_H) {
        int row = thread - TILE_W;
        down[row] = tap(tile_y + row - p.top, p.scale_y, p.height, true);
    }
    __syncthreads();

    // The width is even, so a pair lies inside or outside as a whole and its stores are aligned.
    int x = tile_x + 2 * threadIdx.x;
    if (x >= a.width) return;
    u64 plane = (u64)a.width * (u64)a.height;
    Element *image = (Element *)a.output + 3 * plane * blockIdx.z;
    for (int row = threadIdx.y; row < TILE_H && tile_y + row < a.height; row += THREADS_Y) {
        Pixel left = pixel(p, across[2 * threadIdx.x], down[row], x - p.left, tile_y + row - p.top);
        Pixel right = pixel(p, across[2 * threadIdx.x + 1], down[row], x + 1 - p.left, tile_y + row - p.top);
        Element *at = image + (u64)(tile_y + row) * (u64)a.width + x;
        store_pair(at, left.r, right.r);
        store_pair(at + plane, left.g, right.g);
        store_pair(at + 2 * plane, left.b, right.b);
    }
}

KERNEL(letterbox_float32, Letterbox) { letterbox<float>(arguments); }
KERNEL(letterbox_float16, Letterbox) { letterbox<Half>(arguments); }
