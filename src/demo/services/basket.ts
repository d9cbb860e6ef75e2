/** The shop's basket: gRPC, so HTTP/2. */

import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import { type Contents, type Customer, basket } from './basket-api.js';

const server = new Server();
server.addService(basket, {
  Get: ({ request }: ServerUnaryCall<Customer, Contents>, answer: sendUnaryData<Contents>) => {
    const items = request.customer.length;
    answer(null, { items, total: items * 4.5 });
  },
});

server.bindAsync(`127.0.0.1:${process.env['PORT']}`, ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
