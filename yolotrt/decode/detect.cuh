// What the two decode kernels share: the layout of the heads, and the thresholds of each picture.
#pragma once
#include "raw.cuh"

enum { ANCHOR_FREE = 0, OBJECTNESS = 1, END_TO_END = 2, DETR = 3, RAW = 4 };
enum { ACTIVE = 1, AGNOSTIC = 2, CLIP = 4, SOME_CLASSES = 8, EVERY_CLASS = 16 };

struct Thresholds {              // of one picture
    int flags;                   // without ACTIVE: padding of the batch
    float conf, iou;
    int max_det;
    float left, top;             // offset of the picture in the input, pixels
    float scale_x, scale_y;      // input pixels per source pixel
    float width, height;         // of the source, for CLIP
    float input_width, input_height;
};

struct Decode {
    u64 output;                  // the model's first output, [batch, ...] as the head says; `level` for RAW
    u64 thresholds;              // Thresholds[batch]
    u64 classes;                 // u32[batch][class_words]: a bit per class to keep
    u64 candidates;              // u64[batch][capacity]: sort keys
    u64 counts;                  // u32[batch][2]: candidates, and 1 for a number that is not finite
    u64 kept;                    // Kept[batch][max_det]: scratch
    u64 results;                 // u32[batch][2]: boxes, and the flag of `counts`; then float[batch][max_det][6]
    int head;
    int anchors;                 // rows of the heads without NMS
    int num_classes;             // 0 for the heads without NMS
    int class_words;
    int capacity;                // candidates per picture, enough for all that there can be
    int max_det;                 // boxes per picture that fit; thresholds' may be lower
    int batch;
    int reg_max;                 // of RAW, as all below
    int levels;
    int unused;
    Level level[MAX_LEVELS];
};

struct Box {
    float x1, y1, x2, y2;
};

struct Kept {
    Box box;                     // in input pixels
    int class_id;
};

// NaN or plus infinity, which no score is.
__device__ inline bool broken(float score) { return !(score <= 3.402823466e38f); }

__device__ inline bool finite(float value) { return value - value == 0.0f; }

__device__ inline bool wanted(const Decode &d, const Thresholds &t, int image, int class_id) {
    if (!(t.flags & SOME_CLASSES)) return true;
    if (class_id < 0 || class_id / 32 >= d.class_words) return false;
    u32 word = ((const u32 *)d.classes)[image * d.class_words + class_id / 32];
    return word >> (class_id % 32) & 1;
}

// How far one picture's output reaches, in elements.
__device__ inline u64 image_size(const Decode &d) {
    if (d.head == ANCHOR_FREE) return (u64)d.anchors * (4 + d.num_classes);
    return (u64)d.anchors * (d.head == OBJECTNESS ? 5 + d.num_classes : 6);
}

__device__ inline const Level &level_of(const Decode &d, int anchor) {
    int found = 0;
    while (found + 1 < d.levels && anchor >= d.level[found + 1].first) found++;
    return d.level[found];
}

// Of every head but RAW.
template <typename Element>
__device__ inline Box box_of(const Decode &d, const Thresholds &t, const Element *image, int anchor) {
    Box box;
    float v[4];
    for (int i = 0; i < 4; i++) {
        u64 at = d.head == ANCHOR_FREE ? (u64)i * d.anchors + anchor
                                       : (u64)anchor * (d.head == OBJECTNESS ? 5 + d.num_classes : 6) + i;
        v[i] = to_float(image[at]);
    }
    if (d.head == END_TO_END) {
        box = {v[0], v[1], v[2], v[3]};
        return box;
    }
    float half_width = v[2] / 2.0f, half_height = v[3] / 2.0f;
    box = {v[0] - half_width, v[1] - half_height, v[0] + half_width, v[1] + half_height};
    if (d.head == DETR) {
        box = {box.x1 * t.input_width, box.y1 * t.input_height, box.x2 * t.input_width, box.y2 * t.input_height};
    }
    return box;
}

// Keys rise as candidates come: by falling confidence, of equal ones the first in the output. Confidences are above a
// threshold of at least 0, and positive floats are ordered as their bits are.
__device__ inline u64 key_of(float confidence, u32 index) {
    return (u64)(~(u32)__float_as_int(confidence)) << 32 | index;
}
__device__ inline float confidence_of(u64 key) { return __int_as_float((int)~(u32)(key >> 32)); }
