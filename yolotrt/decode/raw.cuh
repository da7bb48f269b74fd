// Boxes and confidences of `raw` heads, in the steps of yolotrt/decode/raw.py: the same numbers to the last bit.
#pragma once
#include "common.cuh"

#define MAX_LEVELS 6

struct Level {
    u64 boxes;                   // [batch, 4 * reg_max, cells]
    u64 scores;                  // [batch, num_classes, cells]
    int stride;
    int width;                   // cells per row
    int cells;
    int first;                   // number of its first anchor
};

// e to the power of x <= 0; NaN stays NaN.
__device__ inline float exp_of(float x) {
    if (x < -87.0f) x = -87.0f;
    float power = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    float rest = (x - power * 0.693359375f) - power * -2.12194440e-4f;
    float found = 1.9875691500e-4f;
    found = found * rest + 1.3981999507e-3f;
    found = found * rest + 8.3334519073e-3f;
    found = found * rest + 4.1665795894e-2f;
    found = found * rest + 1.6666665459e-1f;
    found = found * rest + 5.0000001201e-1f;
    found = found * (rest * rest) + rest + 1.0f;
    // NaN has no whole number.
    int whole = power == power ? (int)power : 0;
    return found * __int_as_float((whole + 127) << 23);
}

__device__ inline float sigmoid(float x) {
    if (x < -87.0f) return 0.0f;
    float small = exp_of(x < 0.0f ? x : -x);
    return (x >= 0.0f ? 1.0f : small) / (1.0f + small);
}

// A number of one side of a box.
template <typename Element>
__device__ inline float bin_of(const Level &level, int reg_max, int image, int cell, int side, int bin) {
    u64 row = ((u64)image * 4 + side) * reg_max + bin;
    return to_float(((const Element *)level.boxes)[row * level.cells + cell]);
}

// How far a side is from the middle of its cell, in strides.
template <typename Element>
__device__ inline float distance_of(const Level &level, int reg_max, int image, int cell, int side) {
    float largest = bin_of<Element>(level, reg_max, image, cell, side, 0);
    if (reg_max == 1) return largest;
    for (int bin = 1; bin < reg_max; bin++) {
        float value = bin_of<Element>(level, reg_max, image, cell, side, bin);
        if (value > largest) largest = value;
    }
    float total = 0.0f, weighted = 0.0f;
    for (int bin = 0; bin < reg_max; bin++) {
        float weight = exp_of(bin_of<Element>(level, reg_max, image, cell, side, bin) - largest);
        total += weight;
        weighted += weight * (float)bin;
    }
    return weighted / total;
}

// Left, top, right or bottom edge, in input pixels.
template <typename Element>
__device__ inline float edge_of(const Level &level, int reg_max, int image, int cell, int side) {
    float distance = distance_of<Element>(level, reg_max, image, cell, side);
    float middle = (float)(side % 2 ? cell / level.width : cell % level.width) + 0.5f;
    return (side < 2 ? middle - distance : middle + distance) * (float)level.stride;
}

// Whether an edge is a number: its distance is none where a bin is NaN or plus infinity, or all are minus infinity.
template <typename Element>
__device__ inline bool edge_is_finite(const Level &level, int reg_max, int image, int cell, int side) {
    if (reg_max == 1) {
        float edge = edge_of<Element>(level, reg_max, image, cell, side);
        return edge - edge == 0.0f;
    }
    bool any = false;
    for (int bin = 0; bin < reg_max; bin++) {
        float value = bin_of<Element>(level, reg_max, image, cell, side, bin);
        if (!(value <= 3.402823466e38f)) return false;
        any = any || value >= -3.402823466e38f;
    }
    return any;
}
