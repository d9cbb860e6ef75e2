/** The errors that need nothing of Node: they are thrown in browsers too. All others are in `errors.ts`. */

/** The root of this package's errors. */
export class MeshError extends Error {
  static {
    this.prototype.name = 'MeshError';
  }

  /** What happened, for programs. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A problem that the core found in resources: where, what kind, and what it expected. */
export interface ResourceIssue {
  /** The place, by position: `clusters[0].timeouts.connect`. Empty for the whole. */
  path: string;
  /** The kind, from a closed list. */
  code: string;
  /** What is wrong, for people. */
  message: string;
  /** What would be right. */
  expected?: string | null;
}

/** Resources, or a described request, that are refused. Code `MESH_INPUT_INVALID`. */
export class InputError extends MeshError {
  static {
    this.prototype.name = 'InputError';
  }

  declare readonly code: 'MESH_INPUT_INVALID';
  /** Everything that is wrong, each with its place in the JSON. */
  readonly issues: readonly ResourceIssue[];

  constructor(issues: readonly ResourceIssue[]) {
    const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : '';
    const place = issues[0]?.path ? `${issues[0].path}: ` : '';
    super('MESH_INPUT_INVALID', `${place}${issues[0]?.message ?? 'invalid input'}${more}`);
    this.issues = issues;
  }
}

/** A defect in the core. It was contained: the process and its other proxies go on. Code `MESH_INTERNAL`. */
export class InternalError extends MeshError {
  static {
    this.prototype.name = 'InternalError';
  }

  declare readonly code: 'MESH_INTERNAL';

  constructor(message: string, options?: ErrorOptions) {
    super('MESH_INTERNAL', message, options);
  }
}
