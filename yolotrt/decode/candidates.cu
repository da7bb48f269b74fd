// First half of decoding: which boxes are above the threshold. Each becomes a sort key; nothing else is stored, since
// the index in the key leads back to the model's output.
//
// One block looks at ANCHORS anchors of one picture with PARTS threads for each, which share its classes.
//
// Raw heads have kernels of their own (IS_RAW): what they need would cost the others registers.
#include "detect.cuh"

#define ANCHORS 32
#define PARTS 8

struct Best {
    float score;
    int class_id;
};

__device__ inline void add(const Decode &d, int image, float confidence, u32 index) {
    u32 *counts = (u32 *)d.counts + 2 * image;
    u32 slot = atomicAdd(counts, 1u);
    ((u64 *)d.candidates)[(u64)image * d.capacity + slot] = key_of(confidence, index);
}

__device__ inline void mark_bad(const Decode &d, int image) { atomicOr((u32 *)d.counts + 2 * image + 1, 1u); }

template <typename Element, bool IS_RAW>
__device__ inline void check_box(const Decode &d, const Thresholds &t, const Element *image, int anchor) {
    if (IS_RAW) {
        const Level &level = level_of(d, anchor);
        for (int side = 0; side < 4; side++)
            if (!edge_is_finite<Element>(level, d.reg_max, blockIdx.y, anchor - level.first, side))
                mark_bad(d, blockIdx.y);
        return;
    }
    Box box = box_of(d, t, image, anchor);
    if (!(finite(box.x1) && finite(box.y1) && finite(box.x2) && finite(box.y2))) mark_bad(d, blockIdx.y);
}

// Heads whose rows are x, y, x, y, confidence, class.
template <typename Element>
__device__ inline void take_row(const Decode &d, const Thresholds &t, const Element *image, int row) {
    float confidence = to_float(image[6 * (u64)row + 4]);
    if (broken(confidence)) mark_bad(d, blockIdx.y);
    if (!(confidence > t.conf)) return;
    check_box<Element, false>(d, t, image, row);
    if (wanted(d, t, blockIdx.y, (int)to_float(image[6 * (u64)row + 5]))) add(d, blockIdx.y, confidence, row);
}

template <typename Element>
__device__ inline void take_rows(const Decode &d) {
    Thresholds t = ((const Thresholds *)d.thresholds)[blockIdx.y];
    const Element *image = (const Element *)d.output + image_size(d) * blockIdx.y;
    int row = blockIdx.x * ANCHORS * PARTS + threadIdx.x;
    if ((t.flags & ACTIVE) && row < d.anchors) take_row(d, t, image, row);
}

// Of a score as the head gives it: before the sigmoid for RAW.
template <bool IS_RAW>
__device__ inline float confidence_from(float score) {
    return IS_RAW ? sigmoid(score) : score;
}

// One class of an anchor: NaN and infinity are marked; with EVERY_CLASS each score above the threshold counts.
template <typename Element, bool IS_RAW>
__device__ inline void see(const Decode &d, const Thresholds &t, const Element *image, int anchor, int c, float score,
                           Best &best) {
    if (broken(score)) mark_bad(d, blockIdx.y);
    if (t.flags & EVERY_CLASS) {
        float confidence = confidence_from<IS_RAW>(score);
        if (confidence > t.conf) {
            check_box<Element, IS_RAW>(d, t, image, anchor);
            if (wanted(d, t, blockIdx.y, c)) add(d, blockIdx.y, confidence, (u32)anchor * d.num_classes + c);
        }
    } else if (best.class_id < 0 || score > best.score) {  // of equal ones the first, as classes come in order
        best = {score, c};
    }
}

template <typename Element, bool IS_RAW>
__device__ inline Best best_of_part(const Decode &d, const Thresholds &t, const Element *image, int anchor, int part) {
    Best best = {0.0f, -1};
    if (IS_RAW) {
        const Level &level = level_of(d, anchor);
        const Element *scores = (const Element *)level.scores + (u64)blockIdx.y * d.num_classes * level.cells;
        for (int c = part; c < d.num_classes; c += PARTS)
            see<Element, IS_RAW>(d, t, image, anchor, c, to_float(scores[(u64)c * level.cells + anchor - level.first]),
                                 best);
        return best;
    }
    if (d.head == ANCHOR_FREE) {
        const Element *scores = image + (u64)4 * d.anchors + anchor;
        for (int c = part; c < d.num_classes; c += PARTS)
            see<Element, IS_RAW>(d, t, image, anchor, c, to_float(scores[(u64)c * d.anchors]), best);
        return best;
    }
    const Element *row = image + (u64)anchor * (5 + d.num_classes);
    float object = to_float(row[4]);
    if (broken(object)) mark_bad(d, blockIdx.y);
    if (!(object > t.conf)) return best;
    for (int c = part; c < d.num_classes; c += PARTS)
        see<Element, IS_RAW>(d, t, image, anchor, c, to_float(row[5 + c]) * object, best);
    return best;
}

// Heads before NMS.
template <typename Element, bool IS_RAW>
__device__ inline void take_anchors(const Decode &d) {
    __shared__ Best parts[PARTS][ANCHORS];
    Thresholds t = ((const Thresholds *)d.thresholds)[blockIdx.y];
    if (!(t.flags & ACTIVE)) return;  // the whole block does
    const Element *image = (const Element *)d.output + image_size(d) * blockIdx.y;
    // Neighbouring threads read neighbouring numbers: of anchors in one layout, of classes in the other.
    bool anchors_last = IS_RAW || d.head == ANCHOR_FREE;
    int local = anchors_last ? threadIdx.x % ANCHORS : threadIdx.x / PARTS;
    int part = anchors_last ? threadIdx.x / ANCHORS : threadIdx.x % PARTS;
    int anchor = blockIdx.x * ANCHORS + local;
    Best best = {0.0f, -1};
    if (anchor < d.anchors) best = best_of_part<Element, IS_RAW>(d, t, image, anchor, part);
    parts[part][local] = best;
    __syncthreads();
    if (part != 0 || anchor >= d.anchors) return;
    for (int other = 1; other < PARTS; other++) {
        Best b = parts[other][local];
        bool better = b.score > best.score || b.score == best.score && b.class_id < best.class_id;
        if (b.class_id >= 0 && (best.class_id < 0 || better)) best = b;
    }
    if (best.class_id < 0) return;
    float confidence = confidence_from<IS_RAW>(best.score);
    if (!(confidence > t.conf)) return;
    check_box<Element, IS_RAW>(d, t, image, anchor);
    if (wanted(d, t, blockIdx.y, best.class_id))
        add(d, blockIdx.y, confidence, (u32)anchor * d.num_classes + best.class_id);
}

KERNEL(candidates_anchors_float32, Decode) { take_anchors<float, false>(arguments); }
KERNEL(candidates_anchors_float16, Decode) { take_anchors<Half, false>(arguments); }
KERNEL(candidates_raw_float32, Decode) { take_anchors<float, true>(arguments); }
KERNEL(candidates_raw_float16, Decode) { take_anchors<Half, true>(arguments); }
KERNEL(candidates_rows_float32, Decode) { take_rows<float>(arguments); }
KERNEL(candidates_rows_float16, Decode) { take_rows<Half>(arguments); }
