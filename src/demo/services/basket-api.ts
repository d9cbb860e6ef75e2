/**
 * The basket's gRPC interface, for its server and its clients.
 *
 * gRPC carries any bytes; here they are JSON, so that the shop needs no generated code.
 */

import type { MethodDefinition, ServiceDefinition, UntypedHandleCall } from '@grpc/grpc-js';

export interface Customer {
  readonly customer: string;
}

export interface Contents {
  readonly items: number;
  readonly total: number;
}

const write = (value: object): Buffer => Buffer.from(JSON.stringify(value));
const read = <T>(bytes: Buffer): T => JSON.parse(bytes.toString()) as T;

export const get: MethodDefinition<Customer, Contents> = {
  path: '/shop.Basket/Get',
  requestStream: false,
  responseStream: false,
  requestSerialize: write,
  requestDeserialize: read<Customer>,
  responseSerialize: write,
  responseDeserialize: read<Contents>,
};

export const basket: ServiceDefinition<{ Get: UntypedHandleCall }> = { Get: get };
