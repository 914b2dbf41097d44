/*
 * A stand-in for NVIDIA's libnvidia-ml.so.1, written from the layouts in its public header, nvml.h. What goes wrong with
 * it is chosen when it is compiled, since the process that loads it is given no environment:
 *
 *   -DGPUS=0          no GPU                        -DINIT_FAILS      nvmlInit answers "Driver Not Loaded"
 *   -DLOST            the second GPU is lost        -DOLD             functions by their first names alone
 *   -DBARE            nothing that is not needed    -DNO_COUNT        not even the count
 *   -DHANGS           a call that never returns     -DCRASHES         a call that reads nowhere
 *   -DPRINTS          chatter on stdout and stderr  -DMIG             a GPU in two partitions, the second of which is gone
 *   -DBEYOND          figures beyond their whole
 *   -DTELLS_ENVIRONMENT   the driver's version is a list of the names in the environment
 */
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#ifndef GPUS
#define GPUS 2
#endif

#ifdef OLD
#define V2(name) name
#define V3(name) name
#else
#define V2(name) name##_v2
#define V3(name) name##_v3
#endif

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };

typedef struct device { int index, partition; } *device_t;
static struct device devices[2] = {{0}, {1}};
static struct device partitions[3] = {{0, 1}, {0, 2}, {0, 3}};
static int started;

static int copy(char *out, unsigned int length, const char *text) {
  if (strlen(text) >= length) return INSUFFICIENT_SIZE;
  strcpy(out, text);
  return SUCCESS;
}

const char *nvmlErrorString(int code) {
  switch (code) {
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
  }
}

int V2(nvmlInit)(void) {
#ifdef PRINTS
  printf("{ not an answer }\n");
  fprintf(stderr, "NVRM: chatter\n");
  fflush(stdout);
#endif
#ifdef CRASHES
  return *(volatile int *)0;
#endif
#ifdef INIT_FAILS
  return DRIVER_NOT_LOADED;
#endif
  started = 1;
  return SUCCESS;
}

#ifndef NO_COUNT
int V2(nvmlDeviceGetCount)(unsigned int *count) {
#ifdef HANGS
  for (;;) pause();
#endif
  if (!started) return INVALID_ARGUMENT;
  *count = GPUS;
  return SUCCESS;
}
#endif

int V2(nvmlDeviceGetHandleByIndex)(unsigned int index, device_t *device) {
  if (index >= GPUS) return INVALID_ARGUMENT;
#ifdef LOST
  if (index == 1) return GPU_IS_LOST;
#endif
  *device = &devices[index];
  return SUCCESS;
}

#ifndef BARE
int nvmlSystemGetDriverVersion(char *version, unsigned int length) {
#ifdef TELLS_ENVIRONMENT
  extern char **environ;
  version[0] = 0;
  for (char **entry = environ; *entry; entry++) {
    strncat(version, *entry, strchr(*entry, '=') - *entry);
    strcat(version, " ");
  }
  return SUCCESS;
#endif
  return copy(version, length, "550.54.15");
}

int nvmlDeviceGetName(device_t device, char *name, unsigned int length) {
  if (device->partition) return copy(name, length, device->partition == 1 ? "NVIDIA H100 80GB HBM3 MIG 3g.40gb" : "NVIDIA H100 80GB HBM3 MIG 1g.10gb");
  return copy(name, length, device->index == 0 ? "NVIDIA H100 80GB HBM3" : "NVIDIA L4");
}

int nvmlDeviceGetUUID(device_t device, char *uuid, unsigned int length) {
  if (device->partition) return copy(uuid, length, device->partition == 1 ? "MIG-00000000-0000-0000-0000-000000000001" : "MIG-00000000-0000-0000-0000-000000000003");
  return copy(uuid, length, device->index == 0 ? "GPU-00000000-0000-0000-0000-00000000000a" : "GPU-00000000-0000-0000-0000-00000000000b");
}

#ifdef OLD
typedef struct { char busId[16]; unsigned int domain, bus, device, pciDeviceId; } pci_info_t;
#else
typedef struct { char busIdLegacy[16]; unsigned int domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32]; } pci_info_t;
#endif

int V3(nvmlDeviceGetPciInfo)(device_t device, pci_info_t *pci) {
  memset(pci, 0, sizeof *pci);
  pci->bus = device->index == 0 ? 0x3b : 0xaf;
#ifndef OLD
  snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "0000:%02X:00.0", pci->bus);
  snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus);
#else
  snprintf(pci->busId, sizeof pci->busId, "0000:%02X:00.0", pci->bus);
#endif
  return SUCCESS;
}

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2_t;
static const unsigned long long MIB = 1 << 20;

/* Version 1 counts what the driver reserves as used. */
int nvmlDeviceGetMemoryInfo(device_t device, memory_t *memory) {
  if (device->partition) {
    memory->total = (device->partition == 1 ? 40448 : 9984) * MIB;
    memory->used = 100 * MIB;
    memory->free = memory->total - memory->used;
    return SUCCESS;
  }
  memory->total = (device->index == 0 ? 81559 : 23034) * MIB;
  memory->used = (device->index == 0 ? 1536 : 512) * MIB;
  memory->free = memory->total - memory->used;
  return SUCCESS;
}

#ifndef OLD
int nvmlDeviceGetMemoryInfo_v2(device_t device, memory_v2_t *memory) {
  if (memory->version != (sizeof(memory_v2_t) | 2 << 24)) return INVALID_ARGUMENT;
  if (device->partition) return NOT_SUPPORTED;
  memory->total = (device->index == 0 ? 81559 : 23034) * MIB;
  memory->reserved = 512 * MIB;
  memory->used = (device->index == 0 ? 1024 : 0) * MIB;
#ifdef BEYOND
  memory->used = memory->total + MIB;
#endif
  memory->free = memory->total - memory->used - memory->reserved;
  return SUCCESS;
}

int nvmlDeviceGetMigMode(device_t device, unsigned int *current, unsigned int *pending) {
  if (device->index == 1) return NOT_SUPPORTED;
#ifdef MIG
  *current = 1;
#else
  *current = 0;
#endif
  *pending = 1;
  return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(device_t device, unsigned int *count) {
  *count = device->index == 0 ? 3 : 0;
  return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(device_t device, unsigned int index, device_t *partition) {
#ifndef MIG
  return INVALID_ARGUMENT;
#endif
  if (index == 1) return NOT_FOUND;
  *partition = &partitions[index];
  return device->index == 0 ? SUCCESS : INVALID_ARGUMENT;
}
#endif

typedef struct { unsigned int gpu, memory; } utilization_t;

int nvmlDeviceGetUtilizationRates(device_t device, utilization_t *utilization) {
#ifdef MIG
  return NOT_SUPPORTED;
#endif
  utilization->gpu = device->index == 0 ? 37 : 0;
#ifdef BEYOND
  utilization->gpu = 120;
#endif
  utilization->memory = 99;
  return SUCCESS;
}

int nvmlDeviceGetTemperature(device_t device, int sensor, unsigned int *celsius) {
  if (sensor != 0) return INVALID_ARGUMENT;
  *celsius = device->index == 0 ? 41 : 33;
  return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(device_t device, int *major, int *minor) {
  *major = device->index == 0 ? 9 : 8;
  *minor = device->index == 0 ? 0 : 9;
  return SUCCESS;
}
#endif
