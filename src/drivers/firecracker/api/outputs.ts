/** The outputs of Firecracker: its log, its metrics, the guest's serial console. None is kept in a snapshot. */
import { type ApiRequest, apiRequest, type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";
import {
  checkTokenBucket,
  type TokenBucket,
  tokenBucketPayload,
} from "#drivers/firecracker/api/rate-limiter.ts";

const LOG_LEVELS = ["Error", "Warning", "Info", "Debug", "Trace", "Off"] as const;

/** The log. Before 1.14 the file or FIFO must exist. */
export type Logger = {
  readonly logPath?: string | undefined;
  readonly level?: (typeof LOG_LEVELS)[number] | undefined;
  readonly showLevel?: boolean | undefined;
  readonly showLogOrigin?: boolean | undefined;
  /** Limits the log to this module, such as `api_server::request`. */
  readonly module?: string | undefined;
};

/** The metrics, which can be set once per process. Before 1.14 the file or FIFO must exist. */
export type Metrics = {
  readonly metricsPath: string;
  /** True to have the instance's id on every line; since 1.17. */
  readonly emitId?: boolean | undefined;
  /** Constant properties of every line; since 1.17. */
  readonly properties?: Readonly<Record<string, string>> | undefined;
};

/** Since 1.14; without it the console goes to stdout. */
export type Serial = {
  readonly serialOutPath?: string | undefined;
  /** A limit in bytes; output above it is discarded. Since 1.16. */
  readonly rateLimiter?: TokenBucket | undefined;
};

/** Returns the body of `PUT /logger`. Pure. */
export function loggerPayload(logger: Logger): Payload {
  return payload({
    log_path: logger.logPath,
    level: logger.level,
    show_level: logger.showLevel,
    show_log_origin: logger.showLogOrigin,
    module: logger.module,
  });
}

/** Returns the body of `PUT /metrics`. Pure. */
export function metricsPayload(metrics: Metrics): Payload {
  return payload({
    metrics_path: metrics.metricsPath,
    emit_id: metrics.emitId,
    properties: metrics.properties,
  });
}

/** Returns the body of `PUT /serial`. Pure. */
export function serialPayload(serial: Serial): Payload {
  return payload({
    serial_out_path: serial.serialOutPath,
    rate_limiter: serial.rateLimiter && tokenBucketPayload(serial.rateLimiter),
  });
}

/** Checks the path and the level. */
export function checkLogger(problems: Problems, at: string, logger: Logger): void {
  problems.path(`${at}.logPath`, logger.logPath);
  problems.oneOf(`${at}.level`, logger.level, LOG_LEVELS);
}

/** Checks the path, which is required. */
export function checkMetrics(problems: Problems, at: string, metrics: Metrics): void {
  if (problems.required(`${at}.metricsPath`, metrics.metricsPath))
    problems.path(`${at}.metricsPath`, metrics.metricsPath);
}

/** Checks the path and the token bucket. */
export function checkSerial(problems: Problems, at: string, serial: Serial): void {
  problems.path(`${at}.serialOutPath`, serial.serialOutPath);
  checkTokenBucket(problems, `${at}.rateLimiter`, serial.rateLimiter);
}

/** @throws HearthError `input.invalid` */
export function putLogger(logger: Logger): ApiRequest {
  checked((problems) => checkLogger(problems, "logger", logger));
  return apiRequest("PUT", "/logger", loggerPayload(logger));
}

/** @throws HearthError `input.invalid` */
export function putMetrics(metrics: Metrics): ApiRequest {
  checked((problems) => checkMetrics(problems, "metrics", metrics));
  return apiRequest("PUT", "/metrics", metricsPayload(metrics));
}

/** Returns a request that is sent before the start. @throws HearthError `input.invalid` */
export function putSerial(serial: Serial): ApiRequest {
  checked((problems) => checkSerial(problems, "serial", serial));
  return apiRequest("PUT", "/serial", serialPayload(serial));
}
