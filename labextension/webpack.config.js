// Numbers of modules come from absolute paths; names make the bundle the same in every folder.
module.exports = { optimization: { moduleIds: 'named', chunkIds: 'named' } };
