// Second half of decoding: candidates by falling confidence, greedy suppression, boxes in source pixels.
//
// One block works on one picture, in chunks of CHUNK candidates and in these by GROUP, until enough boxes are kept or no
// candidate is left. So the boxes are those of the definition for any number of candidates, and the time depends on how
// many there are. A chunk is chosen by its keys, which are all different: neither the order in which candidates were
// found nor the rest of the batch can be seen in the result.
#include "detect.cuh"

#define THREADS 512
#define CHUNK 2048
#define GROUP 64
#define PARTS (THREADS / GROUP)
#define MOST_CANDIDATES 30000

struct Shared {
    u64 keys[CHUNK];
    u8 overlaps[GROUP][PARTS];   // bit j of row i: box i drops the later box j
    u64 dropped;                 // of the group, by boxes kept before it
    Box boxes[GROUP];
    int classes[GROUP];
    int picks[GROUP];            // boxes of the group that are kept
    int kept, picked, loaded;
    u32 histogram[256];
    u64 limit;
    u32 rank;
};

__device__ inline bool overlap(const Box &a, const Box &b, float iou) {
    float width = fminf(a.x2, b.x2) - fmaxf(a.x1, b.x1);
    float height = fminf(a.y2, b.y2) - fmaxf(a.y1, b.y1);
    float both = fmaxf(width, 0.0f) * fmaxf(height, 0.0f);
    float either = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - both;
    return both > iou * either;  // without the division: no 0 / 0 for boxes without area
}

// The key at position CHUNK, counted from 1, among those above `last`: byte by byte from the highest.
__device__ inline u64 find_limit(Shared &s, const u64 *candidates, u32 found, u64 last) {
    if (threadIdx.x == 0) {
        s.limit = 0;
        s.rank = CHUNK;
    }
    for (int shift = 56; shift >= 0; shift -= 8) {
        for (int bin = threadIdx.x; bin < 256; bin += THREADS) s.histogram[bin] = 0;
        __syncthreads();
        u64 above = shift == 56 ? 0 : ~0ull << (shift + 8);  // the bytes that are settled
        u64 prefix = s.limit;
        for (u32 i = threadIdx.x; i < found; i += THREADS) {
            u64 key = candidates[i];
            if (key > last && (key & above) == prefix) atomicAdd(&s.histogram[key >> shift & 255], 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int bin = 0;
            while (s.histogram[bin] < s.rank) s.rank -= s.histogram[bin++];
            s.limit = prefix | (u64)bin << shift;
        }
        __syncthreads();
    }
    return s.limit;
}

// Bring the next keys above `last` into shared memory, in order: all that are left, or CHUNK of them.
__device__ inline int load_chunk(Shared &s, const u64 *candidates, u32 found, u32 done, u64 last) {
    u32 left = found - done;
    u64 limit = left > CHUNK ? find_limit(s, candidates, found, last) : ~0ull;
    if (threadIdx.x == 0) s.loaded = 0;
    __syncthreads();
    for (u32 i = threadIdx.x; i < found; i += THREADS) {
        u64 key = candidates[i];
        if (key > last && key <= limit) s.keys[atomicAdd(&s.loaded, 1)] = key;
    }
    __syncthreads();
    int loaded = s.loaded, padded = 2;
    while (padded < loaded) padded *= 2;
    for (int i = loaded + threadIdx.x; i < padded; i += THREADS) s.keys[i] = ~0ull;
    __syncthreads();
    for (int run = 2; run <= padded; run *= 2) {  // bitonic
        for (int step = run / 2; step > 0; step /= 2) {
            for (int pair = threadIdx.x; pair < padded / 2; pair += THREADS) {
                int low = 2 * pair - (pair & (step - 1)), high = low + step;
                u64 a = s.keys[low], b = s.keys[high];
                if ((a > b) == ((low & run) == 0)) {
                    s.keys[low] = b;
                    s.keys[high] = a;
                }
            }
            __syncthreads();
        }
    }
    return loaded;
}

// Which boxes of a group overlap kept ones, and which each other. A thread takes one box and a share of the others.
__device__ inline void compare(Shared &s, const Kept *kept, int size, const Thresholds &t) {
    int own = threadIdx.x % GROUP, part = threadIdx.x / GROUP;
    u8 bits = 0;
    if (own < size) {
        Box box = s.boxes[own];
        int class_id = s.classes[own];
        bool agnostic = t.flags & AGNOSTIC;
        for (int k = part; k < s.kept; k += PARTS) {
            if ((agnostic || kept[k].class_id == class_id) && overlap(kept[k].box, box, t.iou)) {
                atomicOr(&s.dropped, 1ull << own);
                break;
            }
        }
        for (int bit = 0; bit < GROUP / PARTS; bit++) {
            int other = part * (GROUP / PARTS) + bit;
            if (other <= own || other >= size || !(agnostic || s.classes[other] == class_id)) continue;
            if (overlap(box, s.boxes[other], t.iou)) bits |= 1 << bit;
        }
    }
    s.overlaps[own][part] = bits;
}

// The boxes of a group that are kept, one after the other: by one thread, a few steps for each kept box.
__device__ inline void pick(Shared &s, int size, int room, bool suppresses) {
    u64 alive = size == GROUP ? ~0ull : (1ull << size) - 1;
    if (suppresses) alive &= ~s.dropped;
    s.picked = 0;
    while (alive && s.picked < room) {
        int best = __ffsll(alive) - 1;
        s.picks[s.picked++] = best;
        alive &= ~(1ull << best);
        if (!suppresses) continue;
        u64 drops = 0;
        for (int part = 0; part < PARTS; part++) drops |= (u64)s.overlaps[best][part] << (part * GROUP / PARTS);
        alive &= ~drops;
    }
}

__device__ inline float to_source(float value, float offset, float scale, float limit, bool clips) {
    value = (value - offset) / scale;
    return clips ? fminf(fmaxf(value, 0.0f), limit) : value;
}

__device__ inline void write(float *to, const Box &box, float confidence, int class_id, const Thresholds &t) {
    bool clips = t.flags & CLIP;
    to[0] = to_source(box.x1, t.left, t.scale_x, t.width, clips);
    to[1] = to_source(box.y1, t.top, t.scale_y, t.height, clips);
    to[2] = to_source(box.x2, t.left, t.scale_x, t.width, clips);
    to[3] = to_source(box.y2, t.top, t.scale_y, t.height, clips);
    to[4] = confidence;
    to[5] = (float)class_id;
}

// Of a RAW head: a thread works out one edge of a box.
template <typename Element>
__device__ inline void load_raw_group(Shared &s, const Decode &d, int start, int size) {
    int own = threadIdx.x % GROUP, side = threadIdx.x / GROUP;
    if (own < size && side < 4) {
        u32 index = (u32)s.keys[start + own];
        int anchor = index / d.num_classes;
        const Level &level = level_of(d, anchor);
        (&s.boxes[own].x1)[side] = edge_of<Element>(level, d.reg_max, blockIdx.x, anchor - level.first, side);
        if (side == 0) s.classes[own] = index % d.num_classes;
    }
}

template <typename Element, bool IS_RAW>
__device__ inline void load_group(Shared &s, const Decode &d, const Thresholds &t, int start, int size) {
    if (threadIdx.x == 0) s.dropped = 0;
    if (IS_RAW) {
        load_raw_group<Element>(s, d, start, size);
    } else if ((int)threadIdx.x < size) {
        const Element *image = (const Element *)d.output + image_size(d) * blockIdx.x;
        u32 index = (u32)s.keys[start + threadIdx.x];
        int anchor = d.num_classes ? index / d.num_classes : index;
        s.boxes[threadIdx.x] = box_of(d, t, image, anchor);
        s.classes[threadIdx.x] = d.num_classes ? index % d.num_classes : (int)to_float(image[6 * (u64)anchor + 5]);
    }
    __syncthreads();
}

// Keep what is to be kept of the `size` keys from `start` on.
template <typename Element, bool IS_RAW>
__device__ inline void take_group(Shared &s, const Decode &d, const Thresholds &t, int start, int size, int most) {
    bool suppresses = IS_RAW || d.head == ANCHOR_FREE || d.head == OBJECTNESS;
    Kept *kept = (Kept *)d.kept + (u64)blockIdx.x * d.max_det;
    float *boxes = (float *)((u32 *)d.results + 2 * d.batch) + (u64)blockIdx.x * d.max_det * 6;
    load_group<Element, IS_RAW>(s, d, t, start, size);
    if (suppresses) compare(s, kept, size, t);
    __syncthreads();
    if (threadIdx.x == 0) pick(s, size, most - s.kept, suppresses);
    __syncthreads();
    int before = s.kept;
    if ((int)threadIdx.x < s.picked) {
        int own = s.picks[threadIdx.x], to = before + threadIdx.x;
        kept[to].box = s.boxes[own];
        kept[to].class_id = s.classes[own];
        write(boxes + 6 * to, s.boxes[own], confidence_of(s.keys[start + own]), s.classes[own], t);
    }
    __syncthreads();
    if (threadIdx.x == 0) s.kept = before + s.picked;
    __syncthreads();
}

template <typename Element, bool IS_RAW>
__device__ inline void suppress(const Decode &d) {
    __shared__ Shared s;
    Thresholds t = ((const Thresholds *)d.thresholds)[blockIdx.x];
    u32 *counts = (u32 *)d.counts + 2 * blockIdx.x;
    u32 found = counts[0], bad = counts[1];
    if (threadIdx.x == 0) s.kept = 0;
    __syncthreads();
    const u64 *candidates = (const u64 *)d.candidates + (u64)blockIdx.x * d.capacity;
    u32 total = min(found, (u32)MOST_CANDIDATES), done = 0;
    int most = min(t.max_det, d.max_det);
    u64 last = 0;
    while (done < total && s.kept < most) {
        int loaded = load_chunk(s, candidates, found, done, last);
        int size = min(loaded, (int)(total - done));
        for (int start = 0; start < size && s.kept < most; start += GROUP)
            take_group<Element, IS_RAW>(s, d, t, start, min(GROUP, size - start), most);
        last = s.keys[size - 1];
        done += size;
    }
    if (threadIdx.x == 0) {
        u32 *header = (u32 *)d.results + 2 * blockIdx.x;
        header[0] = s.kept;
        header[1] = bad;
        counts[0] = counts[1] = 0;  // for the next batch
    }
}

KERNEL(nms_float32, Decode) { suppress<float, false>(arguments); }
KERNEL(nms_float16, Decode) { suppress<Half, false>(arguments); }
KERNEL(nms_raw_float32, Decode) { suppress<float, true>(arguments); }
KERNEL(nms_raw_float16, Decode) { suppress<Half, true>(arguments); }
