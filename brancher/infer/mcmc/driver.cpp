// The compiled loop around a compiled density: HMC and NUTS, one leapfrog of every chain an iteration.
//
// It does, chain by chain, what nuts.py and hmc.py do with tensors: same state, same random numbers, same
// order of decisions; those files carry the explanations and the sources. The density arrives as the entry of a
// library that the stager built; of torch it needs five functions of its stable C interface.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <vector>

struct AtenTensorOpaque;
using Handle = AtenTensorOpaque*;
extern "C" {
int32_t aoti_torch_create_tensor_from_blob(
    void* data, int64_t ndim, const int64_t* sizes, const int64_t* strides, int64_t offset, int32_t dtype,
    int32_t device_type, int32_t device_index, Handle* out);
int32_t aoti_torch_new_tensor_handle(Handle from, Handle* out);
int32_t aoti_torch_delete_tensor_object(Handle tensor);
int32_t aoti_torch_get_data_ptr(Handle tensor, void** out);
int32_t aoti_torch_device_type_cpu();
}

namespace {

constexpr double kMaxEnergyError = 1000.0;
constexpr int64_t kStats = 7;  // acceptance, steps, depth, diverging, energy, log_prob, step size

// One input of the density, as Python describes it.
struct Input {
  void* data;
  int64_t ndim;
  const int64_t* sizes;
  const int64_t* strides;
  int32_t dtype;
};

// Everything a call needs; mirrored by native.py.
struct Job {
  void (*entry)(Handle*, Handle*);
  const Input* inputs;  // the first one is the position that the kernel moves
  int64_t input_count;
  void** fields;        // the state's tensors, in the order of the Python state
  const void* inverse;
  const void* root;
  const int64_t* schedule;  // HMC: leapfrogs of each draw, or null
  double trajectory;        // HMC: length, where there is no schedule
  void* draws;
  void* grads;
  void* stats;
  double target;
  int64_t chains, dim, max_depth, dense, adapting, limit, budget, rows, base;
};

// ---- random numbers: rng.py ----------------------------------------------------------------------------------

inline void threefry(const int64_t* key, int64_t tick, uint32_t lane, uint32_t& a, uint32_t& b) {
  static const int turns[8] = {13, 15, 26, 6, 17, 29, 16, 24};
  const uint32_t k0 = uint32_t(key[0]), k1 = uint32_t(key[1]);
  const uint32_t keys[3] = {k0, k1, k0 ^ k1 ^ 0x1BD11BDAu};
  a = uint32_t(tick) + k0;
  b = lane + k1;
  for (int i = 0; i < 13; ++i) {
    a += b;
    const int turn = turns[i % 8];
    b = ((b << turn) | (b >> (32 - turn))) ^ a;
    if (i % 4 == 3) {
      const uint32_t j = uint32_t(i / 4 + 1);
      a += keys[j % 3];
      b += keys[(j + 1) % 3] + j;
    }
  }
}

template <typename T>
inline T unit(uint32_t word) {
  return (T(word) + T(0.5)) * T(1.0 / 4294967296.0);
}

template <typename T>
void normals(const int64_t* key, int64_t tick, int64_t count, T* out) {
  const int64_t half = (count + 1) / 2;
  for (int64_t i = 0; i < half; ++i) {
    uint32_t a, b;
    threefry(key, tick, uint32_t(8 + i), a, b);
    const T radius = std::sqrt(T(-2) * std::log(unit<T>(a)));
    const T angle = unit<T>(b) * T(2 * 3.14159265358979323846);
    out[i] = radius * std::cos(angle);
    if (half + i < count) out[half + i] = radius * std::sin(angle);
  }
}

// ---- small algebra -------------------------------------------------------------------------------------------

template <typename T>
inline T dot(const T* a, const T* b, int64_t n) {
  T sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

template <typename T>
inline T log_add(T a, T b) {
  const T high = a > b ? a : b;
  if (std::isinf(high)) return high;
  return high + std::log1p(std::exp((a > b ? b : a) - high));
}

template <typename T>
struct Metric {
  const T* inverse;
  const T* root;
  int64_t dim;
  bool dense;

  void apply(const T* matrix, const T* vector, T* out) const {
    if (!dense) {
      for (int64_t i = 0; i < dim; ++i) out[i] = matrix[i] * vector[i];
      return;
    }
    for (int64_t i = 0; i < dim; ++i) out[i] = dot(matrix + i * dim, vector, dim);
  }
  void velocity(const T* momentum, T* out) const { apply(inverse, momentum, out); }
};

// ---- the calls of the density --------------------------------------------------------------------------------

class Density {
 public:
  explicit Density(const Job& job) : entry_(job.entry), held_(job.input_count), in_(job.input_count) {
    for (int64_t i = 0; i < job.input_count; ++i) {
      const Input& x = job.inputs[i];
      check(aoti_torch_create_tensor_from_blob(
          x.data, x.ndim, x.sizes, x.strides, 0, x.dtype, aoti_torch_device_type_cpu(), 0, &held_[i]));
    }
  }
  ~Density() {
    release();
    for (Handle handle : held_) aoti_torch_delete_tensor_object(handle);
  }
  // The entry takes its inputs over, so each call gets handles of its own.
  void call() {
    release();
    for (size_t i = 0; i < held_.size(); ++i) check(aoti_torch_new_tensor_handle(held_[i], &in_[i]));
    entry_(in_.data(), out_);
  }
  template <typename T>
  const T* output(int i) const {
    void* pointer = nullptr;
    check(aoti_torch_get_data_ptr(out_[i], &pointer));
    return static_cast<const T*>(pointer);
  }

 private:
  static void check(int32_t code) {
    if (code != 0) throw std::bad_exception();
  }
  void release() {
    for (Handle& handle : out_) {
      if (handle != nullptr) aoti_torch_delete_tensor_object(handle);
      handle = nullptr;
    }
  }
  void (*entry_)(Handle*, Handle*);
  std::vector<Handle> held_, in_;
  Handle out_[2] = {nullptr, nullptr};
};

// ---- state: the fields of the Python state, one pointer each --------------------------------------------------

template <typename T>
struct Chain {  // state.py: Chain, with the step size inside
  int64_t *key, *tick, *count;
  T *position, *grad, *log_prob;
  T *log_step, *log_average, *error, *updates, *centre;
};

template <typename T>
struct Phase {
  T *position, *momentum, *grad, *log_prob;
};

template <typename T>
struct Tree {
  T *position, *grad, *log_prob, *energy, *rho, *log_weight;
};

struct Fields {
  void** next;
  template <typename P>
  P take() {
    return static_cast<P>(*next++);
  }
};

template <typename T>
Chain<T> take_chain(Fields& f) {
  Chain<T> c;
  c.key = f.take<int64_t*>(), c.tick = f.take<int64_t*>(), c.count = f.take<int64_t*>();
  c.position = f.take<T*>(), c.grad = f.take<T*>(), c.log_prob = f.take<T*>();
  c.log_step = f.take<T*>(), c.log_average = f.take<T*>(), c.error = f.take<T*>();
  c.updates = f.take<T*>(), c.centre = f.take<T*>();
  return c;
}

template <typename T>
Phase<T> take_phase(Fields& f) {
  Phase<T> p;
  p.position = f.take<T*>(), p.momentum = f.take<T*>(), p.grad = f.take<T*>(), p.log_prob = f.take<T*>();
  return p;
}

template <typename T>
Tree<T> take_tree(Fields& f) {
  Tree<T> t;
  t.position = f.take<T*>(), t.grad = f.take<T*>(), t.log_prob = f.take<T*>();
  t.energy = f.take<T*>(), t.rho = f.take<T*>(), t.log_weight = f.take<T*>();
  return t;
}

// ---- what both kernels share ---------------------------------------------------------------------------------

template <typename T>
class Kernel {
 public:
  explicit Kernel(const Job& job) : job_(job), D(job.dim), noise_(D), velocity_(D) {}

 protected:
  const Job& job_;
  const int64_t D;
  std::vector<T> noise_, velocity_;

  Metric<T> metric(int64_t c) const {
    const int64_t size = job_.dense ? D * D : D;
    return {static_cast<const T*>(job_.inverse) + c * size, static_cast<const T*>(job_.root) + c * size, D,
            job_.dense != 0};
  }
  bool active(const Chain<T>& chain, int64_t c) const { return chain.count[c] < job_.limit; }

  void fresh_momentum(const Chain<T>& chain, int64_t c, T* out) {
    normals(chain.key + 2 * c, chain.tick[c], D, noise_.data());
    const Metric<T> m = metric(c);
    m.apply(m.root, noise_.data(), out);
  }
  T kinetic(const Metric<T>& m, const T* momentum) {
    m.velocity(momentum, velocity_.data());
    return T(0.5) * dot(momentum, velocity_.data(), D);
  }
  void kick(T* momentum, const T* grad, T step) const {
    for (int64_t i = 0; i < D; ++i) momentum[i] += T(0.5) * step * grad[i];
  }
  void drift(const Metric<T>& m, T* position, const T* momentum, T step) {
    m.velocity(momentum, velocity_.data());
    for (int64_t i = 0; i < D; ++i) position[i] += step * velocity_[i];
  }
  void copy(T* to, const T* from) const { std::memcpy(to, from, D * sizeof(T)); }

  void adapt(const Chain<T>& chain, int64_t c, T accept) const {  // stepsize.py: update
    const T count = chain.updates[c] + 1;
    const T error = chain.error[c] + ((T(job_.target) - accept) - chain.error[c]) / (count + T(10));
    const T log_step = chain.centre[c] - std::sqrt(count) / T(0.05) * error;
    const T weight = std::pow(count, T(-0.75));
    chain.log_average[c] = weight * log_step + (1 - weight) * chain.log_average[c];
    chain.updates[c] = count, chain.error[c] = error, chain.log_step[c] = log_step;
  }

  void write(const Chain<T>& chain, int64_t c, const T (&stats)[kStats]) const {
    const int64_t row = c * job_.rows + chain.count[c] - job_.base;
    copy(static_cast<T*>(job_.draws) + row * D, chain.position + c * D);
    if (job_.grads != nullptr) copy(static_cast<T*>(job_.grads) + row * D, chain.grad + c * D);
    std::memcpy(static_cast<T*>(job_.stats) + row * kStats, stats, sizeof(stats));
  }
};

// ---- NUTS ----------------------------------------------------------------------------------------------------

template <typename T>
class Nuts : Kernel<T> {
 public:
  explicit Nuts(const Job& job) : Kernel<T>(job), K(job.max_depth), before_(job.chains * job.dim) {
    for (auto* v : {&v_now_, &v_start_, &v_other_, &path_}) v->resize(D);
    Fields f{job.fields};
    chain_ = take_chain<T>(f);
    fresh_ = f.take<int64_t*>(), forward_ = f.take<int64_t*>();
    depth_ = f.take<int64_t*>(), leaf_ = f.take<int64_t*>();
    near_ = take_phase<T>(f), far_ = take_phase<T>(f);
    tree_ = take_tree<T>(f), sub_ = take_tree<T>(f);
    energy_ = f.take<T*>(), accept_sum_ = f.take<T*>();
    steps_ = f.take<int64_t*>();
    checkpoints_ = f.take<T*>();
  }

  bool before_gradient(int64_t c) {
    if (!this->active(chain_, c)) return false;
    if (fresh_[c]) begin_draw(c);
    if (leaf_[c] == 0) begin_subtree(c);
    T* momentum = near_.momentum + c * D;
    this->copy(&before_[c * D], momentum);
    const T step = signed_step(c);
    this->kick(momentum, near_.grad + c * D, step);
    this->drift(this->metric(c), near_.position + c * D, momentum, step);
    return true;
  }

  void after_gradient(int64_t c, T value, const T* grad) {
    if (!this->active(chain_, c)) return;
    const Metric<T> m = this->metric(c);
    T* momentum = near_.momentum + c * D;
    this->copy(near_.grad + c * D, grad);
    near_.log_prob[c] = value;
    this->kick(momentum, grad, signed_step(c));
    m.velocity(momentum, v_now_.data());
    const T energy = T(0.5) * dot(momentum, v_now_.data(), D) - value;
    T gain = energy_[c] - energy;
    if (std::isnan(gain)) gain = -std::numeric_limits<T>::infinity();
    uint32_t take, turn, merge, unused;
    threefry(chain_.key + 2 * c, chain_.tick[c], 0, take, turn);
    threefry(chain_.key + 2 * c, chain_.tick[c], 1, merge, unused);
    add_leaf(c, energy, gain, std::log(unit<T>(take)));
    finish_leaf(c, m, gain, std::log(unit<T>(merge)));
  }

 private:
  using Kernel<T>::D;
  using Kernel<T>::job_;
  const int64_t K;
  Chain<T> chain_;
  int64_t *fresh_, *forward_, *depth_, *leaf_, *steps_;
  Phase<T> near_, far_;
  Tree<T> tree_, sub_;
  T *energy_, *accept_sum_, *checkpoints_;
  std::vector<T> before_, v_now_, v_start_, v_other_, path_;

  T signed_step(int64_t c) const {
    const T step = std::exp(chain_.log_step[c]);
    return forward_[c] ? step : -step;
  }
  T* checkpoint(int64_t c, int64_t level, int64_t what) const {  // 0 momentum, 1 sum, 2 momentum before
    return checkpoints_ + ((c * (K + 1) + level) * 3 + what) * D;
  }

  void begin_draw(int64_t c) {
    T* momentum = near_.momentum + c * D;
    this->fresh_momentum(chain_, c, momentum);
    energy_[c] = this->kinetic(this->metric(c), momentum) - chain_.log_prob[c];
    for (const Phase<T>& end : {near_, far_}) {
      this->copy(end.position + c * D, chain_.position + c * D);
      this->copy(end.grad + c * D, chain_.grad + c * D);
    }
    this->copy(far_.momentum + c * D, momentum);
    this->copy(tree_.position + c * D, chain_.position + c * D);
    this->copy(tree_.grad + c * D, chain_.grad + c * D);
    this->copy(tree_.rho + c * D, momentum);
    tree_.log_prob[c] = chain_.log_prob[c], tree_.energy[c] = energy_[c], tree_.log_weight[c] = 0;
    depth_[c] = leaf_[c] = steps_[c] = fresh_[c] = 0;
    accept_sum_[c] = 0;
  }

  void begin_subtree(int64_t c) {
    uint32_t take, turn;
    threefry(chain_.key + 2 * c, chain_.tick[c], 0, take, turn);
    const int64_t forward = unit<T>(turn) < T(0.5);
    if (forward != forward_[c]) {
      for (int64_t i = c * D; i < (c + 1) * D; ++i) {
        std::swap(near_.position[i], far_.position[i]);
        std::swap(near_.momentum[i], far_.momentum[i]);
        std::swap(near_.grad[i], far_.grad[i]);
      }
      forward_[c] = forward;
    }
    std::memset(sub_.rho + c * D, 0, D * sizeof(T));
    sub_.log_weight[c] = -std::numeric_limits<T>::infinity();
  }

  void add_leaf(int64_t c, T energy, T gain, T log_uniform) {
    const T weight = log_add(sub_.log_weight[c], gain);
    if (log_uniform < gain - weight) {
      this->copy(sub_.position + c * D, near_.position + c * D);
      this->copy(sub_.grad + c * D, near_.grad + c * D);
      sub_.log_prob[c] = near_.log_prob[c], sub_.energy[c] = energy;
    }
    for (int64_t i = c * D; i < (c + 1) * D; ++i) sub_.rho[i] += near_.momentum[i];
    sub_.log_weight[c] = weight;
    accept_sum_[c] += std::exp(gain < 0 ? gain : T(0));
    steps_[c] += 1;
  }

  void finish_leaf(int64_t c, const Metric<T>& m, T gain, T log_uniform) {
    const bool diverging = gain < T(-kMaxEnergyError);
    const bool turning = leaf_[c] % 2 == 1 && subtree_turns(c, m);
    const bool full = leaf_[c] + 1 >= (int64_t(1) << depth_[c]);
    bool done = diverging || turning;
    if (full && !done) {
      done = merge(c, m, log_uniform);
    } else if (!done) {
      if (leaf_[c] % 2 == 0) write_checkpoint(c);
      leaf_[c] += 1;
    }
    if (done) finish_draw(c, diverging);
    chain_.tick[c] += 1;
  }

  bool turned(const T* path, const T* v_start, const T* v_end) const {
    return dot(path, v_start, D) <= 0 || dot(path, v_end, D) <= 0;
  }

  bool subtree_turns(int64_t c, const Metric<T>& m) {
    const int64_t last = __builtin_popcountll(leaf_[c] >> 1);
    const int64_t first = last - __builtin_popcountll(leaf_[c] ^ (leaf_[c] + 1)) + 2;
    const T* sum = sub_.rho + c * D;
    for (int64_t level = last; level >= first; --level) {
      const T *start = checkpoint(c, level, 0), *total = checkpoint(c, level, 1);
      m.velocity(start, v_start_.data());
      for (int64_t i = 0; i < D; ++i) path_[i] = sum[i] - total[i] + start[i];
      if (turned(path_.data(), v_start_.data(), v_now_.data())) return true;
      if (level == last) continue;
      const T *middle = checkpoint(c, level + 1, 0), *through = checkpoint(c, level + 1, 1);
      const T* ahead = checkpoint(c, level + 1, 2);
      m.velocity(middle, v_other_.data());
      for (int64_t i = 0; i < D; ++i) path_[i] = through[i] - total[i] + start[i];
      if (turned(path_.data(), v_start_.data(), v_other_.data())) return true;
      m.velocity(ahead, v_other_.data());
      for (int64_t i = 0; i < D; ++i) path_[i] = sum[i] - through[i] + middle[i] + ahead[i];
      if (turned(path_.data(), v_other_.data(), v_now_.data())) return true;
    }
    return false;
  }

  // Join the full subtree to the tree; tells whether the draw is done.
  bool merge(int64_t c, const Metric<T>& m, T log_uniform) {
    const bool alone = leaf_[c] == 0;
    const T* first = alone ? near_.momentum + c * D : checkpoint(c, 0, 0);
    const T* face = alone ? &before_[c * D] : checkpoint(c, 0, 2);
    const T *rho = tree_.rho + c * D, *added = sub_.rho + c * D;
    m.velocity(far_.momentum + c * D, v_start_.data());
    for (int64_t i = 0; i < D; ++i) path_[i] = rho[i] + added[i];
    bool turned_whole = turned(path_.data(), v_start_.data(), v_now_.data());
    if (!turned_whole) {
      m.velocity(first, v_other_.data());
      for (int64_t i = 0; i < D; ++i) path_[i] = rho[i] + first[i];
      turned_whole = turned(path_.data(), v_start_.data(), v_other_.data());
    }
    if (!turned_whole) {
      m.velocity(face, v_other_.data());
      for (int64_t i = 0; i < D; ++i) path_[i] = added[i] + face[i];
      turned_whole = turned(path_.data(), v_other_.data(), v_now_.data());
    }
    if (log_uniform < sub_.log_weight[c] - tree_.log_weight[c]) {
      this->copy(tree_.position + c * D, sub_.position + c * D);
      this->copy(tree_.grad + c * D, sub_.grad + c * D);
      tree_.log_prob[c] = sub_.log_prob[c], tree_.energy[c] = sub_.energy[c];
    }
    for (int64_t i = c * D; i < (c + 1) * D; ++i) tree_.rho[i] += sub_.rho[i];
    tree_.log_weight[c] = log_add(tree_.log_weight[c], sub_.log_weight[c]);
    depth_[c] += 1;
    leaf_[c] = 0;
    return turned_whole || depth_[c] >= K;
  }

  void write_checkpoint(int64_t c) {
    const int64_t level = __builtin_popcountll(leaf_[c] >> 1);
    this->copy(checkpoint(c, level, 0), near_.momentum + c * D);
    this->copy(checkpoint(c, level, 1), sub_.rho + c * D);
    this->copy(checkpoint(c, level, 2), &before_[c * D]);
  }

  void finish_draw(int64_t c, bool diverging) {
    const T accept = accept_sum_[c] / T(steps_[c]);
    const T step = std::exp(chain_.log_step[c]);
    this->copy(chain_.position + c * D, tree_.position + c * D);
    this->copy(chain_.grad + c * D, tree_.grad + c * D);
    chain_.log_prob[c] = tree_.log_prob[c];
    const T stats[kStats] = {
        accept, T(steps_[c]), T(depth_[c]), T(diverging), tree_.energy[c], tree_.log_prob[c], step};
    this->write(chain_, c, stats);
    if (job_.adapting) this->adapt(chain_, c, accept);
    chain_.count[c] += 1;
    fresh_[c] = 1, leaf_[c] = 0;
  }
};

// ---- HMC -----------------------------------------------------------------------------------------------------

template <typename T>
class Hmc : Kernel<T> {
 public:
  explicit Hmc(const Job& job) : Kernel<T>(job) {
    Fields f{job.fields};
    chain_ = take_chain<T>(f);
    fresh_ = f.take<int64_t*>(), leaps_ = f.take<int64_t*>(), needed_ = f.take<int64_t*>();
    near_ = take_phase<T>(f);
    energy_ = f.take<T*>();
  }

  bool before_gradient(int64_t c) {
    if (!this->active(chain_, c)) return false;
    T* momentum = near_.momentum + c * D;
    const T step = std::exp(chain_.log_step[c]);
    if (fresh_[c]) begin_draw(c, step);
    this->kick(momentum, near_.grad + c * D, step);
    this->drift(this->metric(c), near_.position + c * D, momentum, step);
    return true;
  }

  void after_gradient(int64_t c, T value, const T* grad) {
    if (!this->active(chain_, c)) return;
    T* momentum = near_.momentum + c * D;
    this->copy(near_.grad + c * D, grad);
    near_.log_prob[c] = value;
    this->kick(momentum, grad, std::exp(chain_.log_step[c]));
    leaps_[c] += 1;
    const T energy = this->kinetic(this->metric(c), momentum) - value;
    T gain = energy_[c] - energy;
    if (std::isnan(gain)) gain = -std::numeric_limits<T>::infinity();
    const bool diverging = gain < T(-kMaxEnergyError);
    if (diverging || leaps_[c] >= needed_[c]) finish_draw(c, gain, energy, diverging);
    chain_.tick[c] += 1;
  }

 private:
  using Kernel<T>::D;
  using Kernel<T>::job_;
  Chain<T> chain_;
  int64_t *fresh_, *leaps_, *needed_;
  Phase<T> near_;
  T* energy_;

  void begin_draw(int64_t c, T step) {
    T* momentum = near_.momentum + c * D;
    this->fresh_momentum(chain_, c, momentum);
    energy_[c] = this->kinetic(this->metric(c), momentum) - chain_.log_prob[c];
    this->copy(near_.position + c * D, chain_.position + c * D);
    this->copy(near_.grad + c * D, chain_.grad + c * D);
    fresh_[c] = leaps_[c] = 0;
    if (job_.schedule != nullptr) {
      needed_[c] = job_.schedule[chain_.count[c] - job_.base];
    } else {
      const T count = std::ceil(T(job_.trajectory) / step);
      needed_[c] = count < 1 ? 1 : (count > 1024 ? 1024 : int64_t(count));
    }
  }

  void finish_draw(int64_t c, T gain, T energy, bool diverging) {
    uint32_t take, unused;
    threefry(chain_.key + 2 * c, chain_.tick[c], 0, take, unused);
    const T accept = std::exp(gain < 0 ? gain : T(0));
    T at_draw = energy_[c];
    if (std::log(unit<T>(take)) < gain) {
      this->copy(chain_.position + c * D, near_.position + c * D);
      this->copy(chain_.grad + c * D, near_.grad + c * D);
      chain_.log_prob[c] = near_.log_prob[c];
      at_draw = energy;
    }
    const T stats[kStats] = {
        accept, T(leaps_[c]), T(0), T(diverging), at_draw, chain_.log_prob[c], T(std::exp(chain_.log_step[c]))};
    this->write(chain_, c, stats);
    if (job_.adapting) this->adapt(chain_, c, accept);
    chain_.count[c] += 1;
    fresh_[c] = 1;
  }
};

// ---- the loop ------------------------------------------------------------------------------------------------

template <typename T, typename K>
int64_t run(const Job& job) {
  try {
    K kernel(job);
    Density density(job);
    for (int64_t done = 0; done < job.budget; ++done) {
      bool any = false;
      for (int64_t c = 0; c < job.chains; ++c) any |= kernel.before_gradient(c);
      if (!any) return done;
      density.call();
      const T *values = density.output<T>(0), *grads = density.output<T>(1);
      for (int64_t c = 0; c < job.chains; ++c) kernel.after_gradient(c, values[c], grads + c * job.dim);
    }
    return job.budget;
  } catch (...) {
    return -1;
  }
}

}  // namespace

// One kernel and one type a library, chosen by the compiler's command line: a second instead of four.
extern "C" int64_t brancher_run(const Job* job) { return run<BRANCHER_SCALAR, BRANCHER_KERNEL<BRANCHER_SCALAR>>(*job); }
