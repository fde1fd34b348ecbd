// Attention in float32, [batch, length, heads, 64], forward and backward.
//
// The scores are never stored: a block of 48 queries meets a block of 64 keys
// at a time, with a running maximum and sum (Dao et al., arXiv:2205.14135,
// algorithm 1), and the backward pass computes them again from the logarithm of
// the sum. Each head is a task of one thread. Needs AVX-512.
#pragma once

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <initializer_list>

namespace attention {

constexpr int WIDTH = 64;    // Of a head.
constexpr int QUERIES = 48;  // In a block.
constexpr int KEYS = 64;     // In a block.
constexpr int ROWS = 6;      // Of a product that are in registers at a time.
// Rows of a product with the keys as rows, filled up to a multiple of ROWS.
constexpr int FILLED_KEYS = 66;

struct Sizes {
  int64_t batch, queries, keys, heads;
  bool causal;
  float scale;

  // Last key that a query attends to.
  int64_t last_key(int64_t query) const {
    int64_t last = causal ? query + keys - queries : keys - 1;
    return last < keys ? last : keys - 1;
  }
};

struct Buffer {
  float* data;
  explicit Buffer(int64_t size)
      : data((float*)aligned_alloc(64, (size * 4 + 63) / 64 * 64)) {}
  ~Buffer() { free(data); }
  Buffer(const Buffer&) = delete;
};

static inline int64_t ceil_divide(int64_t x, int64_t y) {
  return (x + y - 1) / y;
}

// exp(x) for x <= 0, within 2 units in the last place; below -87 as at -87.
static inline __m512 exponential(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-87.0f));
  __m512 n = _mm512_roundscale_ps(
      _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                  1.6666665459e-1f, 5.0000001201e-1f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p,
                      _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
  return _mm512_scalef_ps(p, n);
}

// C[6 x 64] = A[6 x k] B[k x 64], added to C if ADD. A has any strides.
template <bool ADD>
static inline void multiply(const float* a, int row_stride, int column_stride,
                            const float* b, int k, float* c) {
  __m512 sums[ROWS][4];
#pragma GCC unroll 6
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
      sums[i][j] =
          ADD ? _mm512_load_ps(c + i * 64 + 16 * j) : _mm512_setzero_ps();
  for (int d = 0; d < k; d++) {
    __m512 row[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) row[j] = _mm512_load_ps(b + d * 64 + 16 * j);
#pragma GCC unroll 6
    for (int i = 0; i < ROWS; i++) {
      __m512 x = _mm512_set1_ps(a[i * row_stride + d * column_stride]);
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++)
        sums[i][j] = _mm512_fmadd_ps(x, row[j], sums[i][j]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
      _mm512_store_ps(c + i * 64 + 16 * j, sums[i][j]);
}

// The lanes of 16 keys from `first` on that are not after `last`.
static inline __mmask16 lanes(int64_t first, int64_t last) {
  int64_t count = last - first + 1;
  return count <= 0 ? 0 : count >= 16 ? 0xffff : (1 << count) - 1;
}

// Rows of one head, next to each other.
static void copy_rows(const float* x, int64_t rows, int64_t heads, float factor,
                      float* y) {
  for (int64_t t = 0; t < rows; t++)
    for (int d = 0; d < WIDTH; d++)
      y[t * WIDTH + d] = x[t * heads * WIDTH + d] * factor;
}

// Blocks of the keys of one head, each transposed, zeros after the last one.
static void transpose_keys(const float* x, int64_t keys, int64_t heads,
                           float* y) {
  memset(y, 0, sizeof(float) * ceil_divide(keys, KEYS) * KEYS * WIDTH);
  for (int64_t s = 0; s < keys; s++)
    for (int d = 0; d < WIDTH; d++)
      y[(s / KEYS * WIDTH + d) * KEYS + s % KEYS] = x[s * heads * WIDTH + d];
}

// One row of scores to weights that are not divided by their sum.
static inline void to_weights(float* scores, int64_t first, int64_t last,
                              float* maximum, float* sum, float* output) {
  __m512 parts[4], highest = _mm512_set1_ps(-INFINITY);
  for (int j = 0; j < 4; j++) {
    parts[j] = _mm512_mask_blend_ps(lanes(first + 16 * j, last),
                                    _mm512_set1_ps(-INFINITY),
                                    _mm512_load_ps(scores + 16 * j));
    highest = _mm512_max_ps(highest, parts[j]);
  }
  float old = *maximum, now = fmaxf(old, _mm512_reduce_max_ps(highest));
  __m512 total = _mm512_setzero_ps();
  for (int j = 0; j < 4; j++) {
    __m512 weights = _mm512_maskz_mov_ps(
        lanes(first + 16 * j, last),
        exponential(_mm512_sub_ps(parts[j], _mm512_set1_ps(now))));
    _mm512_store_ps(scores + 16 * j, weights);
    total = _mm512_add_ps(total, weights);
  }
  if (now == -INFINITY) return;
  float factor = expf(old - now);
  *maximum = now;
  *sum = *sum * factor + _mm512_reduce_add_ps(total);
  if (factor != 1)
    for (int j = 0; j < 4; j++)
      _mm512_store_ps(output + 16 * j,
                      _mm512_mul_ps(_mm512_load_ps(output + 16 * j),
                                    _mm512_set1_ps(factor)));
}

// `logsumexp` is [batch, heads, queries], infinite for a query without keys.
static void forward(const Sizes& n, const float* query, const float* key,
                    const float* value, float* output, float* logsumexp) {
  const int64_t key_blocks = ceil_divide(n.keys, KEYS);
#pragma omp parallel
  {
    Buffer keys(key_blocks * KEYS * WIDTH), values(key_blocks * KEYS * WIDTH);
    Buffer queries(QUERIES * WIDTH), weights(ROWS * KEYS);
    Buffer sums(QUERIES * WIDTH);
    memset(values.data, 0, sizeof(float) * key_blocks * KEYS * WIDTH);
#pragma omp for schedule(dynamic) collapse(2)
    for (int64_t b = 0; b < n.batch; b++)
      for (int64_t h = 0; h < n.heads; h++) {
        const int64_t of_keys = (b * n.keys * n.heads + h) * WIDTH;
        const int64_t of_queries = (b * n.queries * n.heads + h) * WIDTH;
        transpose_keys(key + of_keys, n.keys, n.heads, keys.data);
        copy_rows(value + of_keys, n.keys, n.heads, 1, values.data);
        for (int64_t t = 0; t < n.queries; t += QUERIES) {
          const int64_t rows =
              n.queries - t < QUERIES ? n.queries - t : QUERIES;
          float maximum[QUERIES], sum[QUERIES];
          for (int i = 0; i < QUERIES; i++) maximum[i] = -INFINITY, sum[i] = 0;
          memset(queries.data, 0, sizeof(float) * QUERIES * WIDTH);
          memset(sums.data, 0, sizeof(float) * QUERIES * WIDTH);
          copy_rows(query + of_queries + t * n.heads * WIDTH, rows, n.heads,
                    n.scale, queries.data);
          for (int64_t s = 0; s <= n.last_key(t + rows - 1); s += KEYS)
            for (int64_t r = 0; r < rows; r += ROWS) {
              multiply<false>(queries.data + r * WIDTH, WIDTH, 1,
                              keys.data + s * WIDTH, WIDTH, weights.data);
              for (int i = 0; i < ROWS; i++)
                to_weights(weights.data + i * KEYS, s, n.last_key(t + r + i),
                           maximum + r + i, sum + r + i,
                           sums.data + (r + i) * WIDTH);
              multiply<true>(weights.data, KEYS, 1, values.data + s * WIDTH,
                             KEYS, sums.data + r * WIDTH);
            }
          for (int64_t i = 0; i < rows; i++) {
            float* y = output + of_queries + (t + i) * n.heads * WIDTH;
            for (int d = 0; d < WIDTH; d++)
              y[d] = sum[i] > 0 ? sums.data[i * WIDTH + d] / sum[i] : 0;
            logsumexp[(b * n.heads + h) * n.queries + t + i] =
                sum[i] > 0 ? maximum[i] + logf(sum[i]) : INFINITY;
          }
        }
      }
  }
}

static void backward(const Sizes& n, const float* query, const float* key,
                     const float* value, const float* output,
                     const float* upstream, const float* logsumexp,
                     float* to_query, float* to_key, float* to_value) {
  const int64_t query_blocks = ceil_divide(n.queries, QUERIES);
  const int64_t filled = query_blocks * QUERIES;
#pragma omp parallel
  {
    Buffer queries(filled * WIDTH), ups(filled * WIDTH), sums(filled * WIDTH);
    Buffer log_sums(filled), means(filled);
    Buffer keys(KEYS * WIDTH), keys_t(KEYS * WIDTH), values_t(KEYS * WIDTH);
    // Two rows more: products read the columns in groups of six.
    Buffer weights((QUERIES + 2) * KEYS), changes((QUERIES + 2) * KEYS);
    Buffer key_sums(FILLED_KEYS * WIDTH), value_sums(FILLED_KEYS * WIDTH);
#pragma omp for schedule(dynamic) collapse(2)
    for (int64_t b = 0; b < n.batch; b++)
      for (int64_t h = 0; h < n.heads; h++) {
        const int64_t of_queries = (b * n.queries * n.heads + h) * WIDTH;
        memset(queries.data, 0, sizeof(float) * filled * WIDTH);
        memset(ups.data, 0, sizeof(float) * filled * WIDTH);
        memset(sums.data, 0, sizeof(float) * filled * WIDTH);
        copy_rows(query + of_queries, n.queries, n.heads, n.scale,
                  queries.data);
        copy_rows(upstream + of_queries, n.queries, n.heads, 1, ups.data);
        for (int64_t t = 0; t < filled; t++) {
          const bool exists = t < n.queries;
          const float* y = output + of_queries + t * n.heads * WIDTH;
          float mean = 0;
          for (int d = 0; exists && d < WIDTH; d++)
            mean += y[d] * ups.data[t * WIDTH + d];
          means.data[t] = mean;
          log_sums.data[t] =
              exists ? logsumexp[(b * n.heads + h) * n.queries + t] : INFINITY;
        }
        for (int64_t s = 0; s < n.keys; s += KEYS) {
          const int64_t count = n.keys - s < KEYS ? n.keys - s : KEYS;
          const int64_t of_keys = ((b * n.keys + s) * n.heads + h) * WIDTH;
          memset(keys.data, 0, sizeof(float) * KEYS * WIDTH);
          memset(key_sums.data, 0, sizeof(float) * FILLED_KEYS * WIDTH);
          memset(value_sums.data, 0, sizeof(float) * FILLED_KEYS * WIDTH);
          copy_rows(key + of_keys, count, n.heads, 1, keys.data);
          transpose_keys(key + of_keys, count, n.heads, keys_t.data);
          transpose_keys(value + of_keys, count, n.heads, values_t.data);
          for (int64_t t = 0; t < filled; t += QUERIES) {
            if (n.last_key(t + QUERIES - 1) < s) continue;
            for (int r = 0; r < QUERIES; r += ROWS) {
              float* w = weights.data + r * KEYS;
              float* c = changes.data + r * KEYS;
              multiply<false>(queries.data + (t + r) * WIDTH, WIDTH, 1,
                              keys_t.data, WIDTH, w);
              multiply<false>(ups.data + (t + r) * WIDTH, WIDTH, 1,
                              values_t.data, WIDTH, c);
              for (int i = 0; i < ROWS * 4; i++) {
                const int64_t row = t + r + i / 4;
                const float log_sum = log_sums.data[row];
                const __mmask16 seen =
                    log_sum < INFINITY
                        ? lanes(s + i % 4 * 16, n.last_key(row))
                        : 0;
                __m512 x = _mm512_maskz_mov_ps(
                    seen, exponential(_mm512_sub_ps(_mm512_load_ps(w + i * 16),
                                                    _mm512_set1_ps(log_sum))));
                _mm512_store_ps(w + i * 16, x);
                _mm512_store_ps(
                    c + i * 16,
                    _mm512_mul_ps(
                        x, _mm512_sub_ps(_mm512_load_ps(c + i * 16),
                                         _mm512_set1_ps(means.data[row]))));
              }
              multiply<true>(c, KEYS, 1, keys.data, KEYS,
                             sums.data + (t + r) * WIDTH);
            }
            for (int r = 0; r < KEYS; r += ROWS) {
              multiply<true>(weights.data + r, 1, KEYS, ups.data + t * WIDTH,
                             QUERIES, value_sums.data + r * WIDTH);
              multiply<true>(changes.data + r, 1, KEYS,
                             queries.data + t * WIDTH, QUERIES,
                             key_sums.data + r * WIDTH);
            }
          }
          for (int64_t i = 0; i < count; i++) {
            const int64_t place = of_keys + i * n.heads * WIDTH;
            memcpy(to_key + place, key_sums.data + i * WIDTH, WIDTH * 4);
            memcpy(to_value + place, value_sums.data + i * WIDTH, WIDTH * 4);
          }
        }
        for (int64_t t = 0; t < n.queries; t++)
          for (int d = 0; d < WIDTH; d++)
            to_query[of_queries + t * n.heads * WIDTH + d] =
                sums.data[t * WIDTH + d] * n.scale;
      }
  }
}

}  // namespace attention
