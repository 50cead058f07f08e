/* What the engine computes, row by row: linears, norms, rotary embedding, attention over tiles of
 * keys, SwiGLU, and copies of keys between slots.
 *
 * Row invariance is by construction: a row's arithmetic is the same instructions on the same numbers
 * in the same order whatever rows stand beside it. Keys are visited by position, a dot product is
 * one chain of fused multiply-adds over its inputs, a sum over keys has lanes by absolute position.
 * Blocks of rows share loads, never sums. Never compile this with -ffast-math.
 *
 * Compiled once per instruction set (build_kernels.py); NAME() carries the set in the symbol.
 *
 * Memory of one layer: [tiles][kv_heads][2][size * TILE] float or bf16; first the keys, transposed
 * [size][TILE], then the values [TILE][size]. slot = tile * TILE + column; position p of a text has
 * its home in column p % TILE of its session's tile p / TILE. */

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TILE 64
#define CAT_(a, b) a##_##b
#define CAT(a, b) CAT_(a, b)
#define NAME(x) CAT(nexus_##x, ISA)
#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define WIDE 4 /* vectors a block of `multiply` is wide: 64 columns */
#define TALL 4 /* rows it is high: WIDE * TALL sums, TALL factors, one load, all in registers */
#define HIGH 12 /* the same of a linear, which is NARROW vectors wide */
typedef __m512 Vec;
typedef __m512i Bits;
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define FMA1(a, b, c) __builtin_fmaf(a, b, c)
#define SET(x) _mm512_set1_ps(x)
#define SET_BITS(x) _mm512_set1_epi32(x)
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define MAX(a, b) _mm512_max_ps(a, b)
#define MIN(a, b) _mm512_min_ps(a, b)
#define SQRT(a) _mm512_sqrt_ps(a)
#define AS_BITS(v) _mm512_castps_si512(v)
#define AS_REAL(v) _mm512_castsi512_ps(v)
#define ADD_BITS(a, b) _mm512_add_epi32(a, b)
#define SHIFT_LEFT(v, n) _mm512_slli_epi32(v, n)
#define LOAD_HALVES(p) _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(p)))
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define LANES 8
#define WIDE 4
#define TALL 3
#define HIGH 6
typedef __m256 Vec;
typedef __m256i Bits;
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define FMA1(a, b, c) __builtin_fmaf(a, b, c)
#define SET(x) _mm256_set1_ps(x)
#define SET_BITS(x) _mm256_set1_epi32(x)
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define MAX(a, b) _mm256_max_ps(a, b)
#define MIN(a, b) _mm256_min_ps(a, b)
#define AS_BITS(v) _mm256_castps_si256(v)
#define AS_REAL(v) _mm256_castsi256_ps(v)
#define ADD_BITS(a, b) _mm256_add_epi32(a, b)
#define SHIFT_LEFT(v, n) _mm256_slli_epi32(v, n)
#define LOAD_HALVES(p) _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(p)))
#else /* four lanes of whatever the compiler has; -ffp-contract=off keeps a * b + c apart */
#define LANES 4
#define WIDE 4
#define TALL 2
#define HIGH 6
typedef float Vec __attribute__((vector_size(16)));
typedef int32_t Bits __attribute__((vector_size(16)));
#define FMA(a, b, c) ((a) * (b) + (c))
#define FMA1(a, b, c) ((a) * (b) + (c))
#define SET(x) ((Vec){x, x, x, x})
#define SET_BITS(x) ((Bits){x, x, x, x})
INLINE Vec load4(const float *p) { Vec v; memcpy(&v, p, sizeof v); return v; }
INLINE void store4(float *p, Vec v) { memcpy(p, &v, sizeof v); }
#define LOAD(p) load4(p)
#define STORE(p, v) store4(p, v)
INLINE Vec choose4(Bits mask, Vec a, Vec b) { return (Vec)((mask & (Bits)a) | (~mask & (Bits)b)); }
#define MAX(a, b) choose4((a) > (b), a, b)
#define MIN(a, b) choose4((a) < (b), a, b)
#define AS_BITS(v) ((Bits)(v))
#define AS_REAL(v) ((Vec)(v))
#define ADD_BITS(a, b) ((a) + (b))
#define SHIFT_LEFT(v, n) ((v) << (n))
#define LOAD_HALVES(p) ((Bits){(p)[0], (p)[1], (p)[2], (p)[3]})
#endif
#define NARROW 2
#define PANEL (NARROW * LANES)
#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() atomic_thread_fence(memory_order_acquire)
#endif

typedef struct {
  int32_t heads, kv_heads, size; /* size: of a head */
  int32_t is_bf16;               /* keys and values in memory */
  int32_t qk_norm;               /* Qwen3: normalise query and key heads */
  float norm_eps, scale;
} Layout;

typedef struct {
  int32_t rows, sessions;
  const int32_t *position, *slot, *parent; /* [rows]; parent -1: the committed text */
  const int32_t *first;                    /* [sessions + 1] a session's first row */
  const int32_t *first_tile;               /* [sessions + 1] its first place in `tiles` */
  const int32_t *tiles;                    /* homes by position / TILE */
  const int32_t *first_moved;              /* [rows + 1] its first place in `moved` */
  const int32_t *moved; /* rows among a row and its ancestors whose key is not at home, by position */
  const float *cosine, *sine; /* [rows, size / 2] */
} Step;

#define BLOCK 32 /* rows of a session that go through its tiles together; scores take
                  * BLOCK * group * positions * 4 bytes a thread: 30 MB at group 7 and 32k */

/* exp, 2 ulp: the argument is split in n·ln 2 + r, |r| <= ln 2 / 2; polynomial as in Cephes' expf.
 * Adding 1.5·2^23 rounds to the nearest integer and leaves it in the low bits. */
INLINE Vec exp_vec(Vec x) {
  const Vec magic = SET(12582912.0f);
  x = MAX(MIN(x, SET(88.0f)), SET(-87.0f));
  Vec shifted = FMA(x, SET(1.44269504088896341f), magic);
  Vec n = shifted - magic;
  Vec r = FMA(n, SET(-0.693359375f), x);
  r = FMA(n, SET(2.12194440e-4f), r);
  Vec y = FMA(SET(1.9875691500e-4f), r, SET(1.3981999507e-3f));
  y = FMA(y, r, SET(8.3334519073e-3f));
  y = FMA(y, r, SET(4.1665795894e-2f));
  y = FMA(y, r, SET(1.6666665459e-1f));
  y = FMA(y, r, SET(5.0000001201e-1f));
  y = FMA(y, r * r, r) + SET(1.0f);
  return AS_REAL(ADD_BITS(AS_BITS(y), SHIFT_LEFT(AS_BITS(shifted), 23)));
}

/* The sum of the lanes, first to last. */
INLINE float across(Vec v) {
  float lane[LANES], sum = 0;
  STORE(lane, v);
  for (int i = 0; i < LANES; i++) sum += lane[i];
  return sum;
}

INLINE float widen(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float y;
  memcpy(&y, &bits, sizeof y);
  return y;
}

/* Round to nearest even; NaN stays NaN. */
INLINE uint16_t narrow(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 64);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static _Thread_local float *scratch;
static _Thread_local size_t scratch_size;

/* Numbers of this thread's own. Without memory for a few MB the process could not go on: it ends, and
 * its parent starts another, as after a kill. */
static float *room(size_t count) {
  if (count > scratch_size) {
    free(scratch);
    scratch = malloc(count * sizeof *scratch);
    if (!scratch) {
      fputs("engine: no memory for attention's scores\n", stderr);
      abort();
    }
    scratch_size = count;
  }
  return scratch;
}

/* c[q][0..n) = (is_fresh ? 0 : c) + sum over k of a[q][k] * b[k][0..n), k in order. */
INLINE void multiply_block(const int high, const int wide, const float *a, long a_row,
                           const float *b, long b_row, int steps, float *c, long c_row,
                           int is_fresh) {
  Vec sum[TALL][WIDE];
  for (int q = 0; q < high; q++)
    for (int v = 0; v < wide; v++)
      sum[q][v] = is_fresh ? SET(0.0f) : LOAD(c + q * c_row + v * LANES);
  for (int k = 0; k < steps; k++) {
    Vec each[TALL];
    for (int q = 0; q < high; q++) each[q] = SET(a[q * a_row + k]);
    for (int v = 0; v < wide; v++) {
      Vec own = LOAD(b + k * b_row + v * LANES);
      for (int q = 0; q < high; q++) sum[q][v] = FMA(each[q], own, sum[q][v]);
    }
  }
  for (int q = 0; q < high; q++)
    for (int v = 0; v < wide; v++) STORE(c + q * c_row + v * LANES, sum[q][v]);
}

INLINE void multiply_rows(const int high, const float *a, long a_row, const float *b, long b_row,
                          int steps, int n, float *c, long c_row, int is_fresh) {
  int at = 0;
  for (; at + WIDE * LANES <= n; at += WIDE * LANES)
    multiply_block(high, WIDE, a, a_row, b + at, b_row, steps, c + at, c_row, is_fresh);
  for (; at + LANES <= n; at += LANES)
    multiply_block(high, 1, a, a_row, b + at, b_row, steps, c + at, c_row, is_fresh);
  for (; at < n; at++)
    for (int q = 0; q < high; q++) {
      float sum = is_fresh ? 0.0f : c[q * c_row + at];
      for (int k = 0; k < steps; k++) sum = FMA1(a[q * a_row + k], b[k * b_row + at], sum);
      c[q * c_row + at] = sum;
    }
}

static void multiply(int rows, const float *a, long a_row, const float *b, long b_row, int steps,
                     int n, float *c, long c_row, int is_fresh) {
  for (; rows >= TALL; rows -= TALL, a += TALL * a_row, c += TALL * c_row)
    multiply_rows(TALL, a, a_row, b, b_row, steps, n, c, c_row, is_fresh);
  for (; rows > 0; rows--, a += a_row, c += c_row)
    multiply_rows(1, a, a_row, b, b_row, steps, n, c, c_row, is_fresh);
}

static void normalise(const float *x, const float *weight, int n, float eps, float *out) {
  Vec lanes = SET(0.0f);
  int at = 0;
  for (; at + LANES <= n; at += LANES) lanes = FMA(LOAD(x + at), LOAD(x + at), lanes);
  float sum = across(lanes);
  for (; at < n; at++) sum = FMA1(x[at], x[at], sum);
  float factor = 1.0f / sqrtf(sum / (float)n + eps);
  for (at = 0; at + LANES <= n; at += LANES)
    STORE(out + at, LOAD(x + at) * SET(factor) * LOAD(weight + at));
  for (; at < n; at++) out[at] = x[at] * factor * weight[at];
}

/* x += added, if there is any; out = RMS norm of x. All [rows, n]. */
void NAME(norm)(int rows, int n, float *x, const float *added, const float *weight, float eps,
                float *out) {
  for (long r = 0; r < rows; r++) {
    float *own = x + r * n;
    if (added) {
      const float *more = added + r * n;
      for (int i = 0; i < n; i++) own[i] += more[i];
    }
    normalise(own, weight, n, eps, out + r * n);
  }
}

/* out [rows, n] = silu(gate) * up, where gate and up are the halves of both [rows, 2 n]. */
void NAME(swiglu)(int rows, int n, const float *both, float *out) {
  for (long r = 0; r < rows; r++) {
    const float *gate = both + 2 * r * n, *up = gate + n;
    float *own = out + r * n;
    int at = 0;
    for (; at + LANES <= n; at += LANES) {
      Vec g = LOAD(gate + at);
      STORE(own + at, g / (SET(1.0f) + exp_vec(SET(0.0f) - g)) * LOAD(up + at));
    }
    for (; at < n; at++) {
      float lane[LANES] = {0};
      lane[0] = -gate[at];
      STORE(lane, exp_vec(LOAD(lane)));
      own[at] = gate[at] / (1.0f + lane[0]) * up[at];
    }
  }
}

INLINE size_t block_at(const Layout *l, int tile, int head) {
  return ((size_t)tile * l->kv_heads + head) * 2 * l->size * TILE;
}

/* Rotate pairs (2 i, 2 i + 1). */
INLINE void rotate(float *x, const float *cosine, const float *sine, int size, float scale) {
  for (int i = 0; i < size / 2; i++) {
    float a = x[2 * i], b = x[2 * i + 1];
    float c = cosine[i] * scale, s = sine[i] * scale;
    x[2 * i] = a * c - b * s;
    x[2 * i + 1] = a * s + b * c;
  }
}

/* Rotate a row's heads and put its keys and values into its slot.
 * qkv of a row: the query heads, then key and value of each kv head. */
static void store(const Layout *l, const Step *step, int row, void *memory, float *qkv,
                  const float *norms) {
  const int size = l->size;
  const float *cosine = step->cosine + (long)row * (size / 2);
  const float *sine = step->sine + (long)row * (size / 2);
  float *q = qkv, *kv = qkv + (long)l->heads * size;
  for (int h = 0; h < l->heads; h++, q += size) {
    if (l->qk_norm) normalise(q, norms + (long)h * size, size, l->norm_eps, q);
    rotate(q, cosine, sine, size, l->scale);
  }
  for (int h = 0; h < l->kv_heads; h++, kv += 2 * size) {
    if (l->qk_norm) normalise(kv, norms + (long)(l->heads + h) * size, size, l->norm_eps, kv);
    rotate(kv, cosine, sine, size, 1.0f);
    const int column = step->slot[row] % TILE;
    const size_t at = block_at(l, step->slot[row] / TILE, h);
    const size_t value_at = at + (size_t)size * TILE + (size_t)column * size;
    if (l->is_bf16) {
      uint16_t *to = memory;
      for (int d = 0; d < size; d++) to[at + (size_t)d * TILE + column] = narrow(kv[d]);
      for (int d = 0; d < size; d++) to[value_at + d] = narrow(kv[size + d]);
    } else {
      float *to = memory;
      for (int d = 0; d < size; d++) to[at + (size_t)d * TILE + column] = kv[d];
      memcpy(to + value_at, kv + size, size * sizeof *to);
    }
  }
}

/* Return count numbers of memory from `at` on, as floats. */
INLINE const float *reals(const Layout *l, const void *memory, size_t at, int count, float *spare) {
  if (!l->is_bf16) return (const float *)memory + at;
  const uint16_t *from = (const uint16_t *)memory + at;
  for (int i = 0; i < count; i++) spare[i] = widen(from[i]);
  return spare;
}

INLINE float real(const Layout *l, const void *memory, size_t at) {
  return l->is_bf16 ? widen(((const uint16_t *)memory)[at]) : ((const float *)memory)[at];
}

/* Softmax of scores [0, n), numerators in place, zeros up to `padded`; returns the denominator. */
INLINE float soften(float *scores, int n, int padded) {
  for (int i = n; i < padded; i++) scores[i] = -INFINITY;
  Vec peaks = SET(-INFINITY);
  for (int i = 0; i < padded; i += LANES) peaks = MAX(peaks, LOAD(scores + i));
  float lane[LANES], peak = -INFINITY;
  STORE(lane, peaks);
  for (int i = 0; i < LANES; i++) peak = lane[i] > peak ? lane[i] : peak;
  for (int i = 0; i < padded; i += LANES)
    STORE(scores + i, exp_vec(LOAD(scores + i) - SET(peak)));
  for (int i = n; i < padded; i++) scores[i] = 0.0f;
  Vec sums = SET(0.0f);
  for (int i = 0; i < padded; i += LANES) sums = sums + LOAD(scores + i);
  return across(sums);
}

/* One kv head's attention for rows [from, to) of one session. */
static void attend_block(const Layout *l, const Step *step, const void *memory, const float *qkv,
                         float *out, int session, int head, int from, int to) {
  const int size = l->size, group = l->heads / l->kv_heads;
  const long q_row = (long)(l->heads + 2 * l->kv_heads) * size, out_row = (long)l->heads * size;
  const int32_t *tiles = step->tiles + step->first_tile[session];
  const int32_t *position = step->position;
  int last = 0;
  for (int r = from; r < to; r++) last = position[r] > last ? position[r] : last;
  const int count = last / TILE + 1, padded = count * TILE;
  float *spare = room((size_t)size * TILE + (size_t)(to - from) * group * padded);
  float *scores = spare + (size_t)size * TILE;
  const float *q = qkv + (long)head * group * size;
  float *o = out + (long)head * group * size;

  for (int t = 0; t < count; t++) {
    const float *keys =
        reals(l, memory, block_at(l, tiles[t], head), size * TILE, spare);
    for (int r = from; r < to; r++)
      if (t * TILE <= position[r])
        multiply(group, q + r * q_row, size, keys, TILE, size, TILE,
                 scores + (long)(r - from) * group * padded + t * TILE, padded, 1);
  }
  for (int r = from; r < to; r++) {
    float *own = scores + (long)(r - from) * group * padded;
    for (int m = step->first_moved[r]; m < step->first_moved[r + 1]; m++) {
      const int other = step->moved[m], column = step->slot[other] % TILE;
      const size_t at = block_at(l, step->slot[other] / TILE, head) + column;
      for (int g = 0; g < group; g++) {
        const float *x = q + r * q_row + (long)g * size;
        float sum = 0.0f;
        for (int d = 0; d < size; d++)
          sum = FMA1(x[d], real(l, memory, at + (size_t)d * TILE), sum);
        own[(long)g * padded + position[other]] = sum;
      }
    }
  }
  float total[BLOCK * 64];
  for (int r = from; r < to; r++)
    for (int g = 0; g < group; g++) {
      const long i = (long)(r - from) * group + g;
      total[i] = soften(scores + i * padded, position[r] + 1, padded);
      memset(o + r * out_row + (long)g * size, 0, size * sizeof *o);
    }
  for (int t = 0; t < count; t++) {
    const size_t base = block_at(l, tiles[t], head) + (size_t)size * TILE;
    const float *values = reals(l, memory, base, size * TILE, spare);
    for (int r = from; r < to; r++) {
      int at = t * TILE, stop = position[r] + 1;
      stop = stop < at + TILE ? stop : at + TILE;
      const float *own = scores + (long)(r - from) * group * padded;
      float *mine = o + r * out_row;
      for (int m = step->first_moved[r]; m < step->first_moved[r + 1]; m++) {
        const int other = step->moved[m], p = position[other];
        if (p < at || p >= stop) continue;
        multiply(group, own + at, padded, values + (long)(at - t * TILE) * size, size, p - at,
                 size, mine, size, 0);
        float wide[512];
        const int slot = step->slot[other];
        const size_t place =
            block_at(l, slot / TILE, head) + (size_t)size * (TILE + slot % TILE);
        multiply(group, own + p, padded, reals(l, memory, place, size, wide), size, 1, size, mine,
                 size, 0);
        at = p + 1;
      }
      if (at < stop)
        multiply(group, own + at, padded, values + (long)(at - t * TILE) * size, size, stop - at,
                 size, mine, size, 0);
    }
  }
  for (int r = from; r < to; r++)
    for (int g = 0; g < group; g++) {
      const float each = total[(long)(r - from) * group + g];
      float *x = o + r * out_row + (long)g * size;
      for (int d = 0; d < size; d++) x[d] /= each;
    }
}

/* A job's parts are shared out among the caller and helpers. Parts write to different places, so who
 * computes which one changes nothing. One job at a time; a helper that never woke is not waited for. */
typedef void Part(const void *job, int part);

#define MOST_HELPERS 63
#define SPINS 2000 /* looks before a thread sleeps, about 50 us: the next job of a step comes sooner */

static double least_shared;

static struct {
  pthread_mutex_t lock;
  pthread_cond_t begun, ended;
  int helpers;
  Part *compute;
  const void *job;        /* valid while a part that was taken is not finished */
  _Atomic uint64_t open;  /* number of the job << 32 | its parts that nobody has taken */
  atomic_int left;        /* its parts that are not finished */
  atomic_int asleep;      /* helpers that wait for `begun` */
  atomic_int is_awaited;  /* the caller waits for `ended` */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .begun = PTHREAD_COND_INITIALIZER,
          .ended = PTHREAD_COND_INITIALIZER};

static int is_open(void) { return (uint32_t)atomic_load(&pool.open) != 0; }

/* Compute parts of the present job until all are taken. */
static void work(void) {
  for (;;) {
    uint64_t seen = atomic_load(&pool.open);
    do {
      if (!(uint32_t)seen) return;
    } while (!atomic_compare_exchange_weak(&pool.open, &seen, seen - 1));
    pool.compute(pool.job, (int)(uint32_t)seen - 1);
    if (atomic_fetch_sub(&pool.left, 1) == 1 && atomic_load(&pool.is_awaited)) {
      pthread_mutex_lock(&pool.lock);
      pthread_cond_signal(&pool.ended);
      pthread_mutex_unlock(&pool.lock);
    }
  }
}

static void *help(void *unused) {
  (void)unused;
  for (;;) {
    for (int i = 0; i < SPINS && !is_open(); i++) PAUSE();
    if (!is_open()) {
      pthread_mutex_lock(&pool.lock);
      atomic_fetch_add(&pool.asleep, 1);
      while (!is_open()) pthread_cond_wait(&pool.begun, &pool.lock);
      atomic_fetch_sub(&pool.asleep, 1);
      pthread_mutex_unlock(&pool.lock);
    }
    work();
  }
  return 0;
}

/* Compute all parts of a job of about `cost` multiply-adds. */
static void share(Part *compute, const void *job, int parts, double cost) {
  if (!pool.helpers || parts < 2 || cost <= least_shared) {
    for (int part = 0; part < parts; part++) compute(job, part);
    return;
  }
  pool.compute = compute;
  pool.job = job;
  atomic_store(&pool.left, parts);
  atomic_store(&pool.open, ((atomic_load(&pool.open) >> 32) + 1) << 32 | (uint32_t)parts);
  if (atomic_load(&pool.asleep)) {
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.begun);
    pthread_mutex_unlock(&pool.lock);
  }
  work();
  for (int i = 0; i < SPINS && atomic_load(&pool.left); i++) PAUSE();
  if (!atomic_load(&pool.left)) return;
  pthread_mutex_lock(&pool.lock);
  atomic_store(&pool.is_awaited, 1);
  while (atomic_load(&pool.left)) pthread_cond_wait(&pool.ended, &pool.lock);
  atomic_store(&pool.is_awaited, 0);
  pthread_mutex_unlock(&pool.lock);
}

/* Have `threads` threads in all; those that lack are started, none is ever ended. A job of no more
 * than `least` multiply-adds is not shared: handing it over would take longer. */
void NAME(threads)(int threads, double least) {
  least_shared = least;
  while (pool.helpers < threads - 1 && pool.helpers < MOST_HELPERS) {
    pthread_t thread;
    if (pthread_create(&thread, 0, help, 0)) break;
    pthread_detach(thread);
    pool.helpers++;
  }
}

/* A linear's weight and bias. */
typedef struct {
  int64_t outputs, inputs;
  int32_t is_bf16;
  const void *panels; /* [panels][inputs][PANEL] float or bf16; zeros beyond the last output */
  const float *bias;  /* [panels][PANEL] or 0 */
} Matrix;

typedef struct {
  const Matrix *matrix;
  int rows, parts;
  const float *x;
  float *out;
} Product;

#define LINE 64            /* bytes of a cache line */
#define FETCHED_AHEAD 4096 /* bytes of weights: with many sums to do, a processor alone does not look
                            * far enough ahead (12 rows took 47 ms without, 29 with: AVX-512) */

/* Outputs a panel is wide. */
int NAME(panel)(void) { return PANEL; }

/* `high` rows by one panel: each output is one chain over the inputs, in order, whatever `high` is. */
INLINE void multiply_panel(const int high, const int is_bf16, const Product *job, long panel,
                           int row) {
  const Matrix *m = job->matrix;
  const long inputs = m->inputs, first = panel * PANEL;
  const float *x = job->x + row * inputs;
  const float *weight = (const float *)m->panels + first * inputs;
  const uint16_t *halves = (const uint16_t *)m->panels + first * inputs;
  Vec sum[HIGH][NARROW];
  for (int r = 0; r < high; r++)
    for (int v = 0; v < NARROW; v++)
      sum[r][v] = m->bias ? LOAD(m->bias + first + v * LANES) : SET(0.0f);
  for (long k = 0; k < inputs; k++) {
    Vec own[NARROW];
    for (int v = 0; v < NARROW; v++)
      own[v] = is_bf16 ? AS_REAL(SHIFT_LEFT(LOAD_HALVES(halves + k * PANEL + v * LANES), 16))
                       : LOAD(weight + k * PANEL + v * LANES);
    const char *at_k = (const char *)m->panels + (first * inputs + k * PANEL) * (is_bf16 ? 2 : 4);
    for (int at = 0; at < PANEL * (is_bf16 ? 2 : 4); at += LINE)
      __builtin_prefetch(at_k + FETCHED_AHEAD + at);
    for (int r = 0; r < high; r++) {
      Vec each = SET(x[r * inputs + k]);
      for (int v = 0; v < NARROW; v++) sum[r][v] = FMA(each, own[v], sum[r][v]);
    }
  }
  const long left = m->outputs - first;
  for (int r = 0; r < high; r++) {
    float *out = job->out + (row + r) * m->outputs + first;
    float lane[PANEL];
    for (int v = 0; v < NARROW; v++) STORE((left < PANEL ? lane : out) + v * LANES, sum[r][v]);
    if (left < PANEL) memcpy(out, lane, left * sizeof *out);
  }
}

static void multiply_high(int high, const Product *job, long panel, int row) {
#define CASE(n) \
  case n: \
    if (job->matrix->is_bf16) multiply_panel(n, 1, job, panel, row); \
    else multiply_panel(n, 0, job, panel, row); \
    break;
  switch (high) {
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if HIGH > 6
    CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
  }
#undef CASE
}

/* Inputs that are fetched before they are used: another thread has just written them, and their
 * lines come over one at a time otherwise. */
#define MOST_FETCHED 32768

static void multiply_part(const void *it, int part) {
  const Product *job = it;
  const long panels = (job->matrix->outputs + PANEL - 1) / PANEL;
  const int groups = (job->rows + HIGH - 1) / HIGH;
  const long count = job->rows * job->matrix->inputs;
  if (count <= MOST_FETCHED)
    for (long i = 0; i < count; i += 16) __builtin_prefetch(job->x + i);
  for (long p = panels * part / job->parts; p < panels * (part + 1) / job->parts; p++)
    for (int g = 0, row = 0; g < groups; g++) {
      const int high = (job->rows - row) / (groups - g);
      multiply_high(high, job, p, row);
      row += high;
    }
}

#define PARTS_EACH 4 /* parts of a linear for each thread: one that is held up leaves its rest */

/* out [rows, outputs] = x [rows, inputs] by the matrix, plus its bias. */
void NAME(linear)(const Matrix *matrix, int rows, const float *x, float *out) {
  const long panels = (matrix->outputs + PANEL - 1) / PANEL, most = PARTS_EACH * (pool.helpers + 1);
  Product job = {matrix, rows, (int)(panels < most ? panels : most), x, out};
  share(multiply_part, &job, job.parts, (double)matrix->outputs * matrix->inputs * rows);
}

typedef struct {
  const Layout *layout;
  const Step *step;
  const void *memory;
  const float *qkv;
  float *out;
} Attention;

/* Part by part: session by session, blocks of its rows, kv heads. */
static void attend_part(const void *it, int part) {
  const Attention *job = it;
  const Step *step = job->step;
  const int heads = job->layout->kv_heads, head = part % heads;
  int block = part / heads;
  for (int s = 0; s < step->sessions; s++)
    for (int from = step->first[s]; from < step->first[s + 1]; from += BLOCK)
      if (block-- == 0) {
        const int to = from + BLOCK < step->first[s + 1] ? from + BLOCK : step->first[s + 1];
        attend_block(job->layout, step, job->memory, job->qkv, job->out, s, head, from, to);
        return;
      }
}

/* Write the keys of a step's rows, then attend. One call at a time: the pool holds one job.
 * qkv: [rows, (heads + 2 kv_heads) * size], rotated in place; norms: [heads + kv_heads, size] or 0;
 * out: [rows, heads * size]. */
void NAME(attend)(const Layout *l, const Step *step, void *memory, float *qkv, const float *norms,
                  float *out) {
  const long width = (long)(l->heads + 2 * l->kv_heads) * l->size;
  double keys = 0;
  for (int r = 0; r < step->rows; r++) {
    store(l, step, r, memory, qkv + r * width, norms);
    keys += step->position[r] + 1;
  }
  int blocks = 0;
  for (int s = 0; s < step->sessions; s++)
    blocks += (step->first[s + 1] - step->first[s] + BLOCK - 1) / BLOCK;
  Attention job = {l, step, memory, qkv, out};
  share(attend_part, &job, blocks * l->kv_heads, 2.0 * keys * l->heads * l->size);
}

/* Find the rows whose key is not at home, and the homes of tiles that have none yet (-1).
 * Returns how many places of `moved` are needed; fills them if there are at most `limit`. */
long NAME(plan)(const Step *step, int32_t *tiles, int32_t *first_moved, int32_t *moved,
                long limit) {
  long count = 0;
  for (int s = 0; s < step->sessions; s++) {
    int32_t *own = tiles + step->first_tile[s];
    const int start = step->first[s], stop = step->first[s + 1];
    for (int r = start; r < stop; r++) {
      const int p = step->position[r], slot = step->slot[r];
      if (own[p / TILE] < 0 && slot % TILE == p % TILE) own[p / TILE] = slot / TILE;
    }
    for (int t = 0; t < step->first_tile[s + 1] - step->first_tile[s]; t++)
      if (own[t] < 0) own[t] = 0;
    for (int r = start; r < stop; r++) {
      const int p = step->position[r], parent = step->parent[r];
      first_moved[r] = (int32_t)count;
      if (parent >= 0)
        for (int m = first_moved[parent]; m < first_moved[parent + 1]; m++, count++)
          if (count < limit) moved[count] = moved[m];
      if (step->slot[r] != own[p / TILE] * TILE + p % TILE) {
        if (count < limit) moved[count] = r;
        count++;
      }
      first_moved[r + 1] = (int32_t)count;
    }
  }
  return count;
}

/* Copy keys and values between slots of one layer; all are read before any is written.
 * held: [count, kv_heads, 2 size] of the memory's type. */
void NAME(settle)(const Layout *l, void *memory, int count, const int32_t *source,
                  const int32_t *destination, void *held) {
  const size_t unit = l->is_bf16 ? 2 : 4, size = l->size;
  char *all = memory;
  for (int is_write = 0; is_write < 2; is_write++) {
    char *at = held;
    for (int i = 0; i < count; i++) {
      const int slot = is_write ? destination[i] : source[i];
      for (int h = 0; h < l->kv_heads; h++) {
        char *keys = all + unit * (block_at(l, slot / TILE, h) + slot % TILE);
        char *values = all + unit * (block_at(l, slot / TILE, h) + size * (TILE + slot % TILE));
        for (size_t d = 0; d < size; d++, at += unit) {
          char *key = keys + unit * d * TILE;
          memcpy(is_write ? key : at, is_write ? at : key, unit);
        }
        memcpy(is_write ? values : at, is_write ? at : values, unit * size);
        at += unit * size;
      }
    }
  }
}

/* Ids whose z plus noise may reach `least`, in order. The noise of an id (docs/protocol.md, noise v1)
 * is -log(-log1p(-w)) <= -log(w); here w is bounded by its power of two, with some slack, so that
 * few ids need their logarithms. Returns how many; ids has room for n. */
int NAME(contend)(int n, const float *z, const uint32_t *key, float least, int32_t *ids) {
  typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
  typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
  typedef float Reals __attribute__((vector_size(LANES * 4)));
  int count = 0;
  Words id;
  for (int i = 0; i < LANES; i++) id[i] = i;
  for (int at = 0; at < n; at += LANES, id += LANES) {
    Words x = id + key[0];
    x ^= x >> 16;
    x *= 0x21F0AAADu;
    x ^= x >> 15;
    x *= 0xD35A2D97u;
    x ^= x >> 15;
    x ^= key[1];
    x *= 0x2C1B3C6Du;
    x ^= x >> 16;
    x += key[2];
    x *= 0x297A2D39u;
    x ^= x >> 15;
    Ints high = (Ints)(x >> 8); /* of h = x >> 1, what a float holds exactly */
    Reals power = __builtin_convertvector(high, Reals);
    Ints exponent = (Ints)((Words)power >> 23); /* 127 + floor(log2); 0 for 0 */
    Reals most = __builtin_convertvector(151 - exponent, Reals) * 0.6931472f + 0.001f;
    const int stop = n - at < LANES ? n - at : LANES;
    if (stop == LANES) {
      Reals own;
      memcpy(&own, z + at, sizeof own);
      most += own;
    } else {
      for (int i = 0; i < stop; i++) most[i] += z[at + i];
    }
    Ints reach = most >= least;
    float lane[LANES];
    int any[LANES], some = 0;
    memcpy(any, &reach, sizeof any);
    for (int i = 0; i < LANES; i++) some |= any[i];
    if (!some) continue;
    memcpy(lane, &most, sizeof lane);
    for (int i = 0; i < stop; i++)
      if (lane[i] >= least) ids[count++] = at + i;
  }
  return count;
}

/* The digest of this file that was compiled: the engine refuses a library of another. */
const char *NAME(digest)(void) { return DIGEST; }
