/** The check of a proxy against hostile clients. Loaded by `mesh attack` alone. */

export { type AttackOptions, attack } from './attack.js';
export { LONGEST_TIMEOUT_MS } from './bounds.js';
export { type AttackReport, type Report, type RowReport } from './report.js';
export { ROWS } from './rows.js';
export { NoTargetError, RefusedTargetError, targetUrl } from './target.js';
