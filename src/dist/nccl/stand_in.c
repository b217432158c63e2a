// Stands in for NCCL on the emulated GPU, whose memory is the host's: the functions that this program uses, over Unix sockets between the
// processes of one machine. It needs no MPI, so that ranks started only by environment variables are tested, too.
//
// As with NCCL, NCCL_COMM_ID (or else rank 0's random number) is the identifier of a group, and the calls of a group start together. Calls
// run in the stream's order, but at once: they first wait for the work in the stream.
//
// NCCL_STAND_IN_LOST says what a call does when another rank is lost: "error" (the default) returns an error; "late" never returns, but
// reports an error to ncclCommGetAsyncError; "silent" never returns and reports nothing.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE_ERROR = 6, MOST_RANKS = 64, MOST_WORKS = 4096 };

typedef struct {
  char bytes[128];
} Id;
typedef struct {
  int rank, world, peers[MOST_RANKS];
  volatile int failure;
} Group;
// Bytes that wait to be sent to a peer or received from it.
typedef struct {
  int peer, is_send;
  char *at;
  size_t left;
} Work;

static __thread Work works[MOST_WORKS];
static __thread int count, depth;
static __thread Group *group;
static __thread char last_error[256];

int cuStreamSynchronize(void *stream);  // the emulated driver's
int cuCtxGetCurrent(void **context);

static int fail(int code, const char *what) {
  snprintf(last_error, sizeof last_error, "%s", what);
  return code;
}

static int lost(int peer) {
  const char *mode = getenv("NCCL_STAND_IN_LOST");
  if (mode && !strcmp(mode, "late")) group->failure = REMOTE_ERROR;
  while (mode && strcmp(mode, "error")) pause();
  snprintf(last_error, sizeof last_error, "rank %d closed its connection", peer);
  return REMOTE_ERROR;
}

// Moves bytes of the first waiting work with a peer in one direction. Returns 0, or the error of a lost peer.
static int move(Work *work) {
  int peer = group->peers[work->peer];
  ssize_t moved = work->is_send ? send(peer, work->at, work->left, MSG_DONTWAIT | MSG_NOSIGNAL) : recv(peer, work->at, work->left, MSG_DONTWAIT);
  if (moved < 0 && (errno == EAGAIN || errno == EINTR)) return SUCCESS;
  if (moved <= 0) return lost(work->peer);
  work->at += moved, work->left -= moved;
  return SUCCESS;
}

// Runs all waiting work. Works with one peer in one direction run in order; others run side by side.
static int run(void) {
  for (int first = 0; first < count;) {
    struct pollfd waits[2 * MOST_RANKS];
    Work *of[2 * MOST_RANKS];
    char taken[2][MOST_RANKS] = {{0}};
    int ready = 0;
    for (int i = first; i < count; i++) {
      Work *work = &works[i];
      if (!work->left || taken[work->is_send][work->peer]++) continue;
      waits[ready] = (struct pollfd){group->peers[work->peer], work->is_send ? POLLOUT : POLLIN, 0};
      of[ready++] = work;
    }
    if (ready && poll(waits, ready, -1) < 0 && errno != EINTR) return fail(SYSTEM_ERROR, "poll failed");
    for (int i = 0; i < ready; i++)
      if (waits[i].revents && move(of[i])) return count = 0, REMOTE_ERROR;
    while (first < count && !works[first].left) first++;
  }
  return count = 0, SUCCESS;
}

static int add(Group *of, int peer, int is_send, const void *at, size_t bytes) {
  if (peer < 0 || peer >= of->world) return fail(INVALID_ARGUMENT, "there is no such rank");
  if (peer == of->rank) return fail(INVALID_USAGE, "a rank cannot send to itself");
  if (count == MOST_WORKS) return fail(INVALID_USAGE, "too many calls in a group");
  works[count++] = (Work){peer, is_send, (char *)at, bytes};
  return SUCCESS;
}

// Ends a call: it runs now unless it belongs to a group.
static int start(Group *of, void *stream) {
  group = of;
  if (cuStreamSynchronize(stream)) return fail(INVALID_USAGE, "the stream has failed or belongs to another context");
  return depth ? SUCCESS : run();
}

static int bytes_of(int type) { return type == 1 ? 1 : 0; }

int ncclGetVersion(int *version) { return *version = 22703, SUCCESS; }
const char *ncclGetErrorString(int code) {
  switch (code) {
    case SUCCESS: return "no error";
    case SYSTEM_ERROR: return "unhandled system error";
    case REMOTE_ERROR: return "remote process exited or there was a network error";
    default: return "invalid usage";
  }
}
const char *ncclGetLastError(Group *unused) { return (void)unused, last_error; }

int ncclGetUniqueId(Id *id) {
  const char *address = getenv("NCCL_COMM_ID");
  memset(id, 0, sizeof *id);
  if (address && !strchr(address, ':')) return fail(INVALID_ARGUMENT, "invalid NCCL_COMM_ID: use HOST:PORT");
  if (address) return snprintf(id->bytes, sizeof id->bytes, "%s", address), SUCCESS;
  uint64_t number;
  if (getentropy(&number, sizeof number)) return fail(SYSTEM_ERROR, "no random numbers");
  return snprintf(id->bytes, sizeof id->bytes, "%016llx", (unsigned long long)number), SUCCESS;
}

// The address of a rank: a name that exists only while the process runs.
static socklen_t address_of(struct sockaddr_un *address, const Id *id, int rank) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  int length = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "nccl/%.64s/%d", id->bytes, rank);
  return offsetof(struct sockaddr_un, sun_path) + 1 + length;
}

static int connect_to(const Id *id, int peer, int own) {
  struct sockaddr_un address;
  socklen_t length = address_of(&address, id, peer);
  for (;;) {
    int link = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link < 0) return -1;
    if (!connect(link, (struct sockaddr *)&address, length) && send(link, &own, sizeof own, MSG_NOSIGNAL) == sizeof own) return link;
    close(link);
    usleep(10000);
  }
}

// Waits for all ranks: connects to those before this one and accepts those after it, which first send their number.
int ncclCommInitRank(Group **joined, int world, Id id, int rank) {
  void *context = NULL;
  if (world < 1 || world > MOST_RANKS || rank < 0 || rank >= world) return fail(INVALID_ARGUMENT, "there is no such rank");
  if (cuCtxGetCurrent(&context) || !context) return fail(INVALID_USAGE, "no GPU is current");
  Group *new = calloc(1, sizeof *new);
  new->rank = rank, new->world = world;
  int own = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un address;
  socklen_t length = address_of(&address, &id, rank);
  if (bind(own, (struct sockaddr *)&address, length) || listen(own, MOST_RANKS)) return fail(SYSTEM_ERROR, "the address is in use");
  for (int peer = 0; peer < rank; peer++)
    if ((new->peers[peer] = connect_to(&id, peer, rank)) < 0) return fail(SYSTEM_ERROR, "cannot connect");
  for (int left = world - 1 - rank; left > 0; left--) {
    int link = accept4(own, NULL, NULL, SOCK_CLOEXEC), peer = 0;
    if (link < 0 || recv(link, &peer, sizeof peer, MSG_WAITALL) != sizeof peer) return fail(SYSTEM_ERROR, "cannot accept");
    if (peer <= rank || peer >= world || new->peers[peer]) return fail(INVALID_USAGE, "two processes have the same rank");
    new->peers[peer] = link;
  }
  close(own);
  return *joined = new, SUCCESS;
}

int ncclCommDestroy(Group *of) {
  for (int peer = 0; peer < of->world; peer++)
    if (peer != of->rank) close(of->peers[peer]);
  return free(of), SUCCESS;
}
int ncclCommGetAsyncError(Group *of, int *failure) { return *failure = of->failure, SUCCESS; }

int ncclGroupStart(void) { return depth++, SUCCESS; }
int ncclGroupEnd(void) { return --depth ? SUCCESS : run(); }

int ncclSend(const void *from, size_t number, int type, int peer, Group *of, void *stream) {
  int code = add(of, peer, 1, from, number * bytes_of(type));
  return code ? code : start(of, stream);
}
int ncclRecv(void *to, size_t number, int type, int peer, Group *of, void *stream) {
  int code = add(of, peer, 0, to, number * bytes_of(type));
  return code ? code : start(of, stream);
}
int ncclBroadcast(const void *from, void *to, size_t number, int type, int root, Group *of, void *stream) {
  size_t bytes = number * bytes_of(type);
  int code = root < 0 || root >= of->world ? fail(INVALID_ARGUMENT, "there is no such rank") : SUCCESS;
  if (root != of->rank && !code) code = add(of, root, 0, to, bytes);
  for (int peer = 0; peer < of->world && root == of->rank && !code; peer++)
    if (peer != root) code = add(of, peer, 1, from, bytes);
  if (code) return code;
  code = start(of, stream);
  if (root == of->rank && from != to) memmove(to, from, bytes);
  return code;
}
int ncclAllGather(const void *from, void *to, size_t number, int type, Group *of, void *stream) {
  size_t bytes = number * bytes_of(type);
  int code = SUCCESS;
  for (int peer = 0; peer < of->world && !code; peer++) {
    if (peer == of->rank) continue;
    code = add(of, peer, 1, from, bytes);
    if (!code) code = add(of, peer, 0, (char *)to + peer * bytes, bytes);
  }
  if (code) return code;
  code = start(of, stream);
  char *own = (char *)to + of->rank * bytes;
  if (own != from) memmove(own, from, bytes);
  return code;
}
