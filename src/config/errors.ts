/** How is a configuration refused? Every mistake in it is told at once. */

import { MeshError } from '../mesh-error.js';
import { type ConfigIssue, renderIssue, renderIssues } from './issues.js';

/** A configuration that is refused, with everything that is wrong with it. Code `MESH_CONFIG_INVALID`. */
export class ConfigError extends MeshError {
  static {
    this.prototype.name = 'ConfigError';
  }

  declare readonly code: 'MESH_CONFIG_INVALID' | 'MESH_CERTIFICATE_INVALID';
  /** Every mistake, in the order of the file. */
  readonly issues: readonly ConfigIssue[];
  readonly #source: string | undefined;

  /** `source` is the text of the file, for `pretty()`. */
  constructor(issues: readonly ConfigIssue[], source?: string, code = 'MESH_CONFIG_INVALID') {
    const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : '';
    super(code, `${issues[0] ? renderIssue(issues[0]) : 'invalid configuration'}${more}`);
    this.issues = issues;
    this.#source = source;
  }

  /** All issues for a terminal or a log, each with its line and a caret below the place. Ends without a newline. */
  pretty(options: { colour?: boolean } = {}): string {
    return renderIssues(this.issues, this.#source, options.colour ?? false);
  }
}

/**
 * A configuration that is refused because of its certificates, keys or roots: one can't be read, or doesn't fit.
 * Code `MESH_CERTIFICATE_INVALID`.
 */
export class CertificateError extends ConfigError {
  static {
    this.prototype.name = 'CertificateError';
  }

  declare readonly code: 'MESH_CERTIFICATE_INVALID';
  /** The PEM file of the first mistake; absent for PEM text. */
  readonly file: string | undefined;

  constructor(issues: readonly ConfigIssue[], source?: string, file?: string) {
    super(issues, source, 'MESH_CERTIFICATE_INVALID');
    this.file = file;
  }
}
